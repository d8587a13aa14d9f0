//! Brooklet's own API below `/_brooklet/v1`: what Lambda's API has no word for.

use crate::app::App;
use crate::auth::bearer;
use crate::body::Body;
use crate::error::{ApiError, Kind, Result};
use crate::service::Call;
use crate::stream::Lines;
use crate::{lambda, time};
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use model::{RequestId, Timestamp};
use node::logs::{Entry, EntryKind, Filter, Followed, Follower};
use percent_encoding::percent_decode_str;
use serde_json::json;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// The longest body that any of these takes.
const MAX_BODY: usize = 1 << 16;

/// A follower hears something at least this often, so that one who left is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Log lines that are ready before the reader has taken those before.
const LINES_AHEAD: usize = 256;

/// Answers a request below `/_brooklet/`.
pub(crate) async fn serve(mut call: Call<'_>) -> Result<Response<Body>> {
    let path = call.head.uri.path().to_owned();
    let segments: Vec<&str> = path.trim_end_matches('/').split('/').skip(2).collect();
    let query = call.head.uri.query().unwrap_or_default().to_owned();
    if call.head.method == Method::DELETE
        && let ["v1", "functions", name, "instances"] = segments[..]
    {
        call.admit(MAX_BODY, "Instances").await?;
        return let_idle_go(call.app, &percent_decode_str(name).decode_utf8_lossy(), &query).await;
    }
    if call.head.method != Method::GET {
        return Err(unknown(&call.head.method, &path));
    }
    match segments[..] {
        ["v1", "info"] => {
            call.admit(MAX_BODY, "Info").await?;
            Ok(info(call.app))
        }
        ["v1", "functions", name, "logs"] => {
            call.admit(MAX_BODY, "Logs").await?;
            logs(call.app, &percent_decode_str(name).decode_utf8_lossy(), &query).await
        }
        // The link itself permits the download.
        ["v1", "functions", name, "code"] => code(call.app, name, &query).await,
        _ => Err(unknown(&call.head.method, &path)),
    }
}

fn unknown(method: &Method, path: &str) -> ApiError {
    let message = format!(
        "Brooklet's API has no {method} {path}. It has GET /_brooklet/v1/info, \
         GET /_brooklet/v1/functions/<name>/logs and DELETE /_brooklet/v1/functions/<name>/instances."
    );
    ApiError::new(Kind::UnknownOperationException, message)
}

/// What Prometheus scrapes, with a token or as everything else is asked for.
pub(crate) async fn metrics(mut call: Call<'_>) -> Result<Response<Body>> {
    let App { metrics_token, keys, .. } = &**call.app;
    let is_open = metrics_token.is_none() && keys.is_empty();
    if is_open || !bearer::permits(metrics_token.as_ref(), &call.head.headers)? {
        call.admit(MAX_BODY, "Metrics").await?;
    }
    let text = Body::from(call.app.invoker.metrics());
    Ok(with_type(text, "application/openmetrics-text; version=1.0.0; charset=utf-8"))
}

/// Lets go of instances that run nothing, so that the next request finds none.
async fn let_idle_go(app: &App, name: &str, query: &str) -> Result<Response<Body>> {
    let named = lambda::name::parse(name, app.account())?;
    let qualifier = lambda::query(query, "qualifier").filter(|qualifier| !qualifier.is_empty());
    let qualifier = lambda::name::qualifier(named.qualifier, qualifier.as_deref())?;
    let target = app.registry.resolve(&named.name, qualifier.as_deref(), 0.0).await?;
    app.invoker.let_idle_go(&target);
    let mut response = Response::new(Body::EMPTY);
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn info(app: &App) -> Response<Body> {
    let account = app.account();
    let json = json!({
        "version": app.version,
        "uptime_s": app.started.elapsed().as_secs(),
        "account": account.id,
        "region": account.region,
        "url_authority": app.url_authority,
    });
    with_type(Body::from(json.to_string()), "application/json")
}

/// A deployment package, to whoever has the link that `GetFunction` gave.
async fn code(app: &App, name: &str, query: &str) -> Result<Response<Body>> {
    let version = lambda::query(query, "version").unwrap_or_default();
    if !app.links.permits(&format!("{name}:{version}"), query, time::now()) {
        return Err(ApiError::new(
            Kind::AccessDeniedException,
            "This link is not valid (any more): GetFunction gives a new one, which works for ten minutes.",
        ));
    }
    let package = app.registry.package(name, Some(&version)).await?;
    let mut response = with_type(Body::from(package), "application/zip");
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{name}.zip\""));
    if let Ok(disposition) = disposition {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// A function's log, one JSON object a line: `timestamp` (milliseconds since 1970), `stream`, `request_id` (or
/// null), `message`. Parameters: `stream`, `request_id`, `since_ms`; `follow=true` goes on as lines are written,
/// with an empty line now and then.
async fn logs(app: &Arc<App>, name: &str, query: &str) -> Result<Response<Body>> {
    let name = lambda::name::parse(name, app.account())?.name;
    let filter = filter(query)?;
    let follow = match lambda::query(query, "follow").as_deref() {
        None | Some("" | "false") => false,
        Some("true") => true,
        Some(other) => {
            return Err(ApiError::invalid(format!("follow must be true or false, not '{other}'.")));
        }
    };
    app.registry.function(&name, None).await?;
    let (sender, lines) = mpsc::channel(LINES_AHEAD);
    tokio::spawn(write_logs(app.clone(), name, filter, follow, sender));
    Ok(with_type(Body::stream(Lines(lines)), "application/x-ndjson"))
}

fn filter(query: &str) -> Result<Filter> {
    let request_id = lambda::query(query, "request_id").filter(|id| !id.is_empty()).map(|id| {
        let id = id.parse().map_err(|_| ApiError::invalid(format!("request_id must be a UUID, not '{id}'.")));
        id.map(RequestId)
    });
    let since = lambda::query(query, "since_ms").filter(|since| !since.is_empty()).map(|since| {
        let wrong = || ApiError::invalid(format!("since_ms must be milliseconds since 1970, not '{since}'."));
        since.parse().map(Timestamp).map_err(|_| wrong())
    });
    let stream = lambda::query(query, "stream").filter(|stream| !stream.is_empty()).map(String::from);
    Ok(Filter { stream, request_id: request_id.transpose()?, since: since.transpose()? })
}

/// Writes what is there, then, if asked, what comes. Ends when the reader has left, or with the server.
async fn write_logs(app: Arc<App>, name: String, filter: Filter, follow: bool, lines: mpsc::Sender<Bytes>) {
    // Subscribed before the files are read, so that nothing falls between; what is then seen twice is dropped.
    let live = follow.then(|| app.logs.follow(&name, filter.clone()));
    let recent = time::now().as_millis().saturating_sub(10_000);
    let mut seen = Seen::new();
    let reading = {
        let turn = app.readings.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (logs, name, filter, lines) = (app.logs.clone(), name.clone(), filter.clone(), lines.clone());
        tokio::task::spawn_blocking(move || {
            logs.read(&name, &filter, |entry| {
                if follow && entry.at.as_millis() >= recent {
                    *seen.entry(fingerprint(&entry)).or_default() += 1;
                }
                lines.blocking_send(json_lines(&entry)).is_ok()
            });
            drop(turn);
            seen
        })
    };
    let (Ok(seen), Some(live)) = (reading.await, live) else { return };
    tokio::select! {
        () = app.closing() => {}
        () = write_live(live, seen, lines) => {}
    }
}

/// Entries of the files' end, which may come live too: how often each was seen.
type Seen = HashMap<u64, u32>;

async fn write_live(mut live: Follower, mut seen: Seen, lines: mpsc::Sender<Bytes>) {
    loop {
        let line = match tokio::time::timeout(HEARTBEAT, live.next()).await {
            Err(_) => Bytes::from_static(b"\n"),
            Ok(None) => return,
            Ok(Some(Followed::Missed(missed))) => missed_line(missed),
            Ok(Some(Followed::Entry(entry))) if was_seen(&mut seen, &entry) => continue,
            Ok(Some(Followed::Entry(entry))) => json_lines(&entry),
        };
        if lines.send(line).await.is_err() {
            return;
        }
    }
}

fn fingerprint(entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    (entry.at, &entry.stream, entry.request_id, entry.text()).hash(&mut hasher);
    hasher.finish()
}

fn was_seen(seen: &mut Seen, entry: &Entry) -> bool {
    if seen.is_empty() {
        return false;
    }
    let fingerprint = fingerprint(entry);
    let Some(count) = seen.get_mut(&fingerprint) else { return false };
    *count -= 1;
    if *count == 0 {
        seen.remove(&fingerprint);
    }
    true
}

/// The entry as JSON, one object for each of its lines (a function's own line may hold line breaks).
fn json_lines(entry: &Entry) -> Bytes {
    let text = entry.text();
    let messages: Vec<&str> = match entry.kind {
        EntryKind::Report(_) | EntryKind::InitDone { .. } => text.split('\n').collect(),
        _ => vec![&text],
    };
    let line = |message| {
        let (at, id) = (entry.at.as_millis(), entry.request_id.map(|id| id.to_string()));
        let json = json!({ "timestamp": at, "stream": *entry.stream, "request_id": id, "message": message });
        format!("{json}\n")
    };
    messages.into_iter().map(line).collect::<String>().into()
}

fn missed_line(missed: u64) -> Bytes {
    let message = format!("({missed} lines came faster than they were read and are left out here)");
    let at = time::now().as_millis();
    let json = json!({ "timestamp": at, "stream": null, "request_id": null, "message": message });
    format!("{json}\n").into()
}

fn with_type(body: Body, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
