//! The variables a function sees: Lambda's reserved ones, then the user's.
//!
//! Source: AWS Lambda developer guide, "Using Lambda environment variables", defined runtime variables.

use crate::interpreter::Wanted;
use model::{Credentials, RESERVED_PREFIX};
use ports::InstanceSpec;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Gives each function the credentials of its own, by its unqualified ARN.
#[derive(Clone)]
pub struct Issuer(Arc<dyn Fn(&str) -> Credentials + Send + Sync>);

impl Issuer {
    /// That gives what `issue` makes for a function's ARN.
    pub fn new(issue: impl Fn(&str) -> Credentials + Send + Sync + 'static) -> Issuer {
        Issuer(Arc::new(issue))
    }

    /// The variables by which AWS's SDKs find the credentials of the function with this ARN.
    pub fn variables(&self, function_arn: &str) -> impl Iterator<Item = (String, String)> + use<> {
        let Credentials { access_key_id, secret_access_key, session_token } = self.0(function_arn);
        let token = session_token.map(|token| ("AWS_SESSION_TOKEN".to_owned(), token));
        [
            ("AWS_ACCESS_KEY_ID".to_owned(), access_key_id),
            ("AWS_SECRET_ACCESS_KEY".to_owned(), secret_access_key),
        ]
        .into_iter()
        .chain(token)
    }
}

/// Gives placeholders.
impl Default for Issuer {
    fn default() -> Issuer {
        Issuer::new(|_| Credentials::placeholder())
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issuer")
    }
}

/// Where an instance finds its files: inside the sandbox, or on the machine when there is none.
#[derive(Clone, Debug)]
pub struct Places {
    /// `/var/task`.
    pub task: String,
    /// `/var/runtime`.
    pub runtime: String,
    /// The folder of the interpreter, when the machine has one for the function.
    pub programs: Option<String>,
    /// Where `/tmp` is; `None` where it really is `/tmp`.
    pub tmp: Option<String>,
}

/// The variables of one instance that logs to `stream`, but for the one by which it is spoken to.
pub fn environment(
    spec: &InstanceSpec,
    wanted: &Wanted,
    places: &Places,
    stream: &str,
) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |key: &str, value: &str| {
        all.insert(key.to_owned(), value.to_owned());
    };
    // The user may replace these.
    set("LANG", "en_US.UTF-8");
    set("PATH", &search_path(places));
    set("LD_LIBRARY_PATH", &library_path(places));
    set("TZ", ":UTC");
    set("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR");
    // Where the X-Ray daemon listens unless it is told otherwise; to send to nobody does no harm (UDP).
    set("AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1:2000");
    match wanted {
        Wanted::Python(_) => set("PYTHONPATH", &places.runtime),
        Wanted::Node(version) => set(
            "NODE_PATH",
            &format!(
                "/opt/nodejs/node{version}/node_modules:/opt/nodejs/node_modules:{0}/node_modules:{0}:{1}",
                places.runtime, places.task
            ),
        ),
        _ => {}
    }
    if let Some(tmp) = &places.tmp {
        set("TMPDIR", tmp);
    }
    // Those of a function that was made before they were refused are not passed on: they would be orders to a bootstrap.
    for (key, value) in spec.environment.iter().filter(|(key, _)| !key.starts_with(RESERVED_PREFIX)) {
        set(key, value);
    }
    // Reserved: never the user's.
    set("_HANDLER", &spec.handler);
    set("LAMBDA_TASK_ROOT", &places.task);
    set("LAMBDA_RUNTIME_DIR", &places.runtime);
    set("AWS_REGION", &spec.region);
    set("AWS_DEFAULT_REGION", &spec.region);
    set("AWS_LAMBDA_FUNCTION_NAME", &spec.function);
    set("AWS_LAMBDA_FUNCTION_VERSION", &spec.version.to_string());
    set("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &spec.memory.0.to_string());
    set("AWS_LAMBDA_LOG_GROUP_NAME", &spec.log_group);
    set("AWS_LAMBDA_LOG_STREAM_NAME", stream);
    set("AWS_LAMBDA_LOG_FORMAT", &spec.log_format);
    set("AWS_LAMBDA_INITIALIZATION_TYPE", spec.initialization.name());
    if let Some(level) = &spec.log_level {
        set("AWS_LAMBDA_LOG_LEVEL", level);
    }
    if !matches!(wanted, Wanted::Provided | Wanted::Http) {
        set("AWS_EXECUTION_ENV", &format!("AWS_Lambda_{}", spec.runtime));
    }
    all
}

/// Lambda's: a function that starts `python3` or `node` gets the one that runs it.
fn search_path(places: &Places) -> String {
    let programs = places.programs.as_ref().map(|dir| format!("{dir}:")).unwrap_or_default();
    format!("{programs}/usr/local/bin:/usr/bin:/bin:/opt/bin")
}

fn library_path(places: &Places) -> String {
    let Places { task, runtime, .. } = places;
    format!("/lib64:/usr/lib64:{runtime}:{runtime}/lib:{task}:{task}/lib:/opt/lib")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::path::Path;

    #[test]
    fn nobody_gives_orders_to_a_bootstrap_by_a_functions_variables() {
        let places = Places { task: "/t".into(), runtime: "/r".into(), programs: None, tmp: None };
        let mut spec = testing::spec("python3.11", Path::new("/t"));
        for name in ["BROOKLET_WAIT", "BROOKLET_ZYGOTE", "OWN"] {
            spec.environment.insert(name.into(), "1".into());
        }
        let all = environment(&spec, &Wanted::Provided, &places, "s");
        assert!(all.keys().all(|name| !name.starts_with(RESERVED_PREFIX)) && all.contains_key("OWN"));
    }
}
