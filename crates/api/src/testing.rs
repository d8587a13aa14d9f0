//! Shared by tests.

use std::process::Command;

/// Lambda's service model (`service-2.json`) as the installed botocore has it; `None`, said on stderr, without one.
pub fn service_model() -> Option<serde_json::Value> {
    let script = "import botocore.loaders, json; \
                  print(json.dumps(botocore.loaders.Loader().load_service_model('lambda', 'service-2')))";
    let output = Command::new("python3").args(["-c", script]).output().ok()?;
    if !output.status.success() {
        eprintln!("not compared with the service model: no python3 with botocore here");
        return None;
    }
    Some(serde_json::from_slice(&output.stdout).expect("botocore prints JSON"))
}
