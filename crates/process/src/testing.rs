//! What tests of several modules need, and those in `tests/`.

use model::{Contract, MiB, Version};
use ports::InstanceSpec;
use std::path::Path;
use std::time::Duration;

/// The function `f`, whose package is at `code`.
pub fn spec(runtime: &str, code: &Path) -> InstanceSpec {
    InstanceSpec {
        function_arn: "arn:aws:lambda:us-east-1:000000000000:function:f".into(),
        function: "f".into(),
        version: Version::Latest,
        runtime: runtime.into(),
        handler: "Own".into(),
        contract: Contract::Lambda,
        environment: Default::default(),
        network: None,
        code_dir: code.to_owned(),
        layer_dirs: vec![],
        memory: MiB(512),
        ephemeral_storage: MiB(512),
        timeout: Duration::from_secs(20),
        init_timeout: Duration::from_secs(20),
        concurrency: 1,
        region: "us-east-1".into(),
        log_group: "/aws/lambda/f".into(),
        log_format: "Text".into(),
        log_level: None,
        initialization: ports::Initialization::OnDemand,
    }
}
