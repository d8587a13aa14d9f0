//! Functions in a folder of the test's own, and an executor for them.

#![allow(dead_code)] // each test file uses its part

#[path = "../../src/testing.rs"]
mod testing;

use bytes::Bytes;
use model::{MiB, Network, RequestId, Timestamp};
use ports::{
    Executor, Instance, InstanceSpec, Invocation, InvokeResult, LogEvent, LogSink, Payload, StartFailure,
    Unready,
};
use process::{Isolation, ProcessExecutor, Settings};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub fn executor(dir: &Path, isolation: Isolation) -> ProcessExecutor {
    ProcessExecutor::new(settings(dir, isolation)).expect("an executor")
}

pub fn settings(dir: &Path, isolation: Isolation) -> Settings {
    Settings {
        run_dir: dir.join("run"),
        runtimes_dir: dir.join("runtimes"),
        install: "brooklet runtimes install".into(),
        training_runs: true,
        users: None,
        isolation,
        network: Network::Internet,
        endpoints: Default::default(),
        credentials: Default::default(),
        connections: 64,
        stems: 8,
        keep_alive: Duration::from_secs(60),
    }
}

/// Where nobody reads.
pub fn nowhere() -> Arc<dyn LogSink> {
    Arc::new(Nowhere)
}

pub fn spec(runtime: &str, handler: &str, code_dir: &Path) -> InstanceSpec {
    InstanceSpec { handler: handler.into(), memory: MiB(256), ..testing::spec(runtime, code_dir) }
}

struct Nowhere;

impl LogSink for Nowhere {
    fn write(&self, _: LogEvent) {}
}

/// A new instance.
pub async fn start(executor: &ProcessExecutor, spec: InstanceSpec) -> Arc<dyn Instance> {
    let started = executor.start(Arc::new(spec), "stream".into(), Arc::new(Nowhere)).await;
    started.unwrap_or_else(|failure| panic!("{failure:?}")).instance
}

/// What one invocation of a new instance ends with: the answer, or `error …`, or why it did not start.
pub async fn answer(executor: &ProcessExecutor, spec: InstanceSpec) -> String {
    let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
    let instance = match executor.start(Arc::new(spec), "stream".into(), nowhere()).await {
        Ok(started) => started.instance,
        Err(Unready { failure: StartFailure::Init(json), .. }) => {
            return format!("init error {}", text(json));
        }
        Err(other) => return format!("{other:?}"),
    };
    let answer = invoke(&instance).await;
    instance.stop(Duration::ZERO).await;
    answer
}

/// What one invocation ends with: the answer, or `error …`.
pub async fn invoke(instance: &Arc<dyn Instance>) -> String {
    let invocation = Invocation {
        request_id: RequestId(uuid::Uuid::from_u128(1)),
        invoked_arn: "arn:aws:lambda:us-east-1:000000000000:function:f".into(),
        deadline: Timestamp(4_102_444_800_000),
        payload: Payload::Event("{}".into()),
        trace_id: "Root=1-00000000-000000000000000000000000;Parent=0000000000000000;Sampled=0".into(),
        client_context: None,
        cognito_identity: None,
    };
    let completion = instance.invoke(invocation, tokio::sync::oneshot::channel().0).await;
    match completion.result {
        InvokeResult::Answer(answer) => text(answer),
        InvokeResult::Error(json) => format!("error {}", text(json)),
        other => format!("{other:?}"),
    }
}

fn text(bytes: Bytes) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until something has come true of which nobody tells: it is looked at every 2 ms.
pub async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("waited 20 s in vain");
}

/// A file that may be executed.
pub fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("set");
}

pub fn newest_python() -> String {
    format!("python{}", newest("python"))
}

pub fn newest_node() -> String {
    format!("nodejs{}.x", newest("node"))
}

/// Any version that the machine has.
fn newest(language: &str) -> String {
    // Looking for them starts each.
    static FOUND: OnceLock<Vec<process::Found>> = OnceLock::new();
    let found = FOUND.get_or_init(process::survey).iter().rfind(|found| found.language == language).cloned();
    found.unwrap_or_else(|| panic!("this test needs {language}")).version
}
