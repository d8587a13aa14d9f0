//! A node over real processes, and functions that need no control plane: for tests and for examples.

#![allow(dead_code)] // each user takes its part

use bytes::Bytes;
use model::{Account, Code, Configuration, Logging, MiB, RequestId, Timestamp, Version};
use node::control::{Target, UnpackedCode};
use node::invoke::{InvokeRequest, Refusal, Reply};
use node::logs::Logs;
use node::{Node, NodeConfig};
use policy::keepalive::Config;
use ports::{Executor, Payload};
use process::{Isolation, ProcessExecutor, Settings};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub struct World {
    pub node: Arc<Node>,
    dir: tempfile::TempDir,
}

impl World {
    pub fn new() -> World {
        World::keeping(Config::fixed(Duration::from_secs(60)))
    }

    /// With this keep-alive.
    pub fn keeping(keep_alive: Config) -> World {
        let dir = tempfile::tempdir().expect("a folder");
        let settings = Settings {
            stems: 0,
            keep_alive: Duration::from_secs(600),
            run_dir: dir.path().join("run"),
            runtimes_dir: dir.path().join("runtimes"),
            install: "brooklet runtimes install".into(),
            training_runs: false,
            users: None,
            isolation: Isolation::Root,
            network: model::Network::Internet,
            endpoints: Default::default(),
            credentials: Default::default(),
            connections: 64,
        };
        let executor = ProcessExecutor::new(settings).expect("an executor");
        World::over(Arc::new(executor), dir, keep_alive)
    }

    /// With this executor.
    pub fn over(executor: Arc<dyn Executor>, dir: tempfile::TempDir, keep_alive: Config) -> World {
        let logs = Logs::open(dir.path(), node::logs::DEFAULT_KEPT).expect("logs");
        let config = NodeConfig {
            descriptors: u32::MAX,
            account: Account { id: "000000000000".into(), region: "us-east-1".into() },
            concurrency_limit: 1_000,
            memory: MiB(8192),
            keep_alive,
            freeze_after: Duration::from_millis(100),
            page_out_after: Duration::MAX,
            init_timeout: Duration::from_secs(10),
        };
        World { node: Node::new(config, executor, logs), dir }
    }

    pub fn function(&self, name: &str, runtime: &str, handler: &str, files: &[(&str, &str)]) -> Target {
        let code_dir = self.dir.path().join("code").join(name);
        for (path, text) in files {
            write(&code_dir.join(path), text);
        }
        target(name, code_dir, configuration(runtime, handler))
    }

    pub async fn invoke(&self, target: &Target, event: &str) -> Result<String, Refusal> {
        let invoked = self.node.invoke(target.clone(), request(event)).await?;
        Ok(match invoked.reply {
            Reply::Answer(payload) => text(&payload),
            Reply::FunctionError(payload) => format!("error {}", text(&payload)),
            Reply::Stream(_) => "stream".into(),
        })
    }
}

/// `$LATEST` of a function whose package lies unpacked in `code_dir`.
pub fn target(name: &str, code_dir: PathBuf, configuration: Configuration) -> Target {
    Target {
        name: name.into(),
        uid: name.into(),
        version: Version::Latest,
        configuration: Arc::new(configuration),
        code: Arc::new(UnpackedCode::at(code_dir)),
    }
}

pub fn request(event: &str) -> InvokeRequest {
    InvokeRequest {
        request_id: RequestId(uuid::Uuid::new_v4()),
        payload: Payload::Event(Bytes::copy_from_slice(event.as_bytes())),
        qualifier: None,
        trace_id: None,
        client_context: None,
        tail: false,
    }
}

pub fn configuration(runtime: &str, handler: &str) -> Configuration {
    Configuration {
        runtime: runtime.into(),
        handler: handler.into(),
        role: String::new(),
        description: String::new(),
        timeout_s: 3,
        memory: MiB(128),
        ephemeral_storage: MiB(512),
        environment: Default::default(),
        architectures: vec!["x86_64".into()],
        layers: vec![],
        tracing: "PassThrough".into(),
        logging: Logging {
            format: "Text".into(),
            application_level: None,
            system_level: None,
            group: "/aws/lambda/f".into(),
        },
        network: None,
        instance_concurrency: 1,
        code: Code { sha256: String::new(), size: 0 },
        last_modified: Timestamp(0),
        revision_id: "1".into(),
        deployment_id: "1".into(),
        echoed: Default::default(),
    }
}

fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("set");
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
