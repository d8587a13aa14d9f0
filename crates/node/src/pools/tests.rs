use super::*;
use model::{Contract, Version};
use policy::budget::BudgetConfig;
use ports::{BoxFuture, LogSink, Started};
use std::path::Path;

/// Starts nothing.
struct Idle;

impl Executor for Idle {
    fn start(
        &self,
        _: Arc<InstanceSpec>,
        _: Arc<str>,
        _: Arc<dyn LogSink>,
    ) -> BoxFuture<'_, Result<Started, Unready>> {
        Box::pin(std::future::pending())
    }

    fn check(&self, _: &str, _: Option<&Path>) -> Result<(), String> {
        Ok(())
    }
}

fn spec() -> InstanceSpec {
    InstanceSpec {
        function_arn: "arn:aws:lambda:us-east-1:000000000000:function:f".into(),
        function: "f".into(),
        version: Version::Latest,
        runtime: "provided.al2023".into(),
        handler: String::new(),
        contract: Contract::Lambda,
        environment: Default::default(),
        network: None,
        code_dir: "/".into(),
        layer_dirs: Vec::new(),
        memory: MiB(128),
        ephemeral_storage: MiB(512),
        timeout: Duration::from_secs(3),
        init_timeout: Duration::from_secs(10),
        concurrency: 1,
        region: "us-east-1".into(),
        log_group: String::new(),
        log_format: "Text".into(),
        log_level: None,
        initialization: Initialization::OnDemand,
    }
}

#[tokio::test]
async fn nothing_is_kept_of_an_instance_that_was_asked_for_and_denied() {
    let dir = tempfile::tempdir().expect("a folder");
    let logs = Logs::open(dir.path(), crate::logs::DEFAULT_KEPT).expect("logs");
    // Whatever is provisioned has to leave room for one more.
    let budget = Budget::new(BudgetConfig::new(MiB(1)));
    let pools = Pools::new(Arc::new(Idle), logs.clone(), Arc::new(Metrics::new()), Clock::default(), budget);
    let code = Arc::new(UnpackedCode::at("/".into()));
    let shell = pools.open(Arc::new(spec()), code, PoolConfig::default());
    shell.tell(Event::Provision { instances: 1 });
    assert_eq!(shell.provisioned(1).allocated, 0, "it is denied");
    assert!(shell.lock().asked.is_empty());
    logs.close();
}
