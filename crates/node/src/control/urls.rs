//! Function URLs: of `$LATEST` or of an alias.

use super::registry::{Draft, Registry, document, now, url_key};
use super::{ControlError, FunctionUrl, Page, PutUrl, validate};
use model::{FunctionHead, LATEST, Url};
use ports::store::Expect;
use std::sync::Arc;

/// URLs in a page, at most.
const PAGE: usize = 50;

impl Registry {
    /// Gives `$LATEST` or an alias a URL.
    pub async fn create_url(&self, request: PutUrl) -> Result<FunctionUrl, ControlError> {
        validate::url(&request, true)?;
        let qualifier = request.qualifier.as_deref().unwrap_or(LATEST);
        let now = now();
        let url = Url {
            id: new_url_id(),
            auth_type: request.auth_type.clone().unwrap_or_default(),
            cors: request.cors.clone(),
            invoke_mode: request.invoke_mode.unwrap_or_default(),
            created: now,
            modified: now,
        };
        // Refused before the id is written, in all but a race.
        let decide = |head: &FunctionHead| {
            self.url_owner(head, qualifier)?;
            match head.urls.contains_key(qualifier) {
                true => Err(ControlError::conflict(format!(
                    "Failed to create function url config for [functionArn = {}]. Error message:  FunctionUrlConfig exists for this Lambda function",
                    self.account().function_arn(&request.function, request.qualifier.as_deref())
                ))),
                false => Ok(()),
            }
        };
        decide(&self.entry(&request.function).await.map_err(no_function)?.head)?;
        // The id leads to the function before the function knows the id: a crash in between leaves an id that
        // its function disowns.
        let mut turn = self.turn(&request.function).await;
        turn.hold(self.ledger.pins.pin(&url_key(&url.id)).await);
        self.store.put(&url_key(&url.id), document(&request.function), Expect::Absent).await?;
        let insert = |draft: &mut Draft| {
            decide(&draft.head)?;
            draft.head.urls.insert(qualifier.to_owned(), url.clone());
            Ok(())
        };
        self.change_in_turn(turn, &request.function, insert).await.map_err(no_function)?;
        Ok(function_url(&request.function, qualifier, url))
    }

    /// Changes a URL's settings; its address stays.
    pub async fn update_url(&self, request: PutUrl) -> Result<FunctionUrl, ControlError> {
        validate::url(&request, false)?;
        let qualifier = request.qualifier.as_deref().unwrap_or(LATEST);
        // Asked first: a missing function and a missing URL are told apart.
        self.entry(&request.function).await.map_err(no_function)?;
        let decide = |draft: &mut Draft| {
            self.url_owner(&draft.head, qualifier)?;
            let url = draft.head.urls.get_mut(qualifier).ok_or_else(no_url)?;
            if let Some(auth_type) = &request.auth_type {
                url.auth_type.clone_from(auth_type);
            }
            if let Some(cors) = &request.cors {
                url.cors = Some(cors.clone());
            }
            url.invoke_mode = request.invoke_mode.unwrap_or(url.invoke_mode);
            url.modified = now();
            Ok(url.clone())
        };
        let (_, url) = self.change(&request.function, decide).await?;
        Ok(function_url(&request.function, qualifier, url))
    }

    /// The URL of `$LATEST` or of an alias.
    pub async fn url(&self, function: &str, qualifier: Option<&str>) -> Result<FunctionUrl, ControlError> {
        validate::function(function)?;
        let qualifier = qualifier.unwrap_or(LATEST);
        let entry = self.entry(function).await.map_err(no_function_is_no_url)?;
        entry.urls.iter().find(|url| &*url.qualifier == qualifier).cloned().ok_or_else(no_url)
    }

    /// All URLs of a function, by qualifier.
    pub async fn list_urls(
        &self,
        function: &str,
        marker: Option<&str>,
        max_items: Option<i64>,
    ) -> Result<Page<FunctionUrl>, ControlError> {
        validate::function(function)?;
        let limit = validate::page_size(max_items, PAGE)?;
        let entry = self.entry(function).await.map_err(no_function)?;
        let after = |url: &&FunctionUrl| marker.is_none_or(|marker| &*url.qualifier > marker);
        let mut items: Vec<FunctionUrl> = entry.urls.iter().filter(after).take(limit + 1).cloned().collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next_marker = items.last().filter(|_| more).map(|last| last.qualifier.to_string());
        Ok(Page { items, next_marker })
    }

    /// Takes a URL away.
    pub async fn delete_url(&self, function: &str, qualifier: Option<&str>) -> Result<(), ControlError> {
        validate::function(function)?;
        let qualifier = qualifier.unwrap_or(LATEST);
        let decide = |draft: &mut Draft| draft.head.urls.remove(qualifier).ok_or_else(no_url);
        let (_, url) = self.change(function, decide).await.map_err(no_function_is_no_url)?;
        self.forget_url(Some(url)).await;
        Ok(())
    }

    /// Removes the index of a URL that its function no longer has.
    pub(super) async fn forget_url(&self, url: Option<Url>) {
        let Some(url) = url else { return };
        if let Err(error) = self.store.delete(&url_key(&url.id), Expect::Any).await {
            tracing::warn!(id = url.id, %error, "a deleted URL's id is left to the sweep");
        }
    }

    fn url_owner(&self, head: &FunctionHead, qualifier: &str) -> Result<(), ControlError> {
        match qualifier == LATEST || head.aliases.contains_key(qualifier) {
            true => Ok(()),
            false => Err(ControlError::not_found(NO_FUNCTION)),
        }
    }
}

fn function_url(function: &str, qualifier: &str, url: Url) -> FunctionUrl {
    FunctionUrl { function: function.into(), qualifier: qualifier.into(), url: Arc::new(url) }
}

fn no_url() -> ControlError {
    ControlError::not_found("The resource you requested does not exist.")
}

/// Lambda's URL operations have words of their own for a function or alias that is missing.
const NO_FUNCTION: &str = "Function does not exist";

fn no_function(error: ControlError) -> ControlError {
    match error {
        ControlError::NotFound { .. } => ControlError::not_found(NO_FUNCTION),
        other => other,
    }
}

fn no_function_is_no_url(error: ControlError) -> ControlError {
    match error {
        ControlError::NotFound { .. } => no_url(),
        other => other,
    }
}

/// 32 letters and digits that nobody can guess: with `AuthType` `NONE` the id is all that a caller needs.
fn new_url_id() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let random = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
    // Bytes 6 and 8 of a version 4 UUID hold fixed bits.
    let bytes = random.iter().flat_map(|uuid| uuid.as_bytes()[9..].iter().chain(&uuid.as_bytes()[..6]));
    bytes.take(32).map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()
}
