//! Tags.

use super::registry::{Draft, Registry};
use super::{ControlError, validate};
use std::collections::BTreeMap;

impl Registry {
    /// A function's tags.
    pub async fn tags(&self, name: &str) -> Result<BTreeMap<String, String>, ControlError> {
        validate::function(name)?;
        Ok(self.entry(name).await?.head.tags.clone())
    }

    /// Adds tags to a function, or changes their values.
    pub async fn tag(&self, name: &str, tags: BTreeMap<String, String>) -> Result<(), ControlError> {
        validate::function(name)?;
        if tags.is_empty() {
            let message = "An error occurred and the request cannot be processed. (There are no tags in it.)";
            return Err(ControlError::invalid("Tags", message));
        }
        let decide = |draft: &mut Draft| {
            draft.head.tags.extend(tags.clone());
            validate::tags(&draft.head.tags)
        };
        self.change(name, decide).await.map(|_| ())
    }

    /// Takes tags away; keys that the function does not have are passed over.
    pub async fn untag(&self, name: &str, keys: &[String]) -> Result<(), ControlError> {
        validate::function(name)?;
        let decide = |draft: &mut Draft| {
            draft.head.tags.retain(|key, _| !keys.contains(key));
            Ok(())
        };
        self.change(name, decide).await.map(|_| ())
    }
}
