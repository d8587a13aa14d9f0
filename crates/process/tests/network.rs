//! What an instance reaches, seen from within it. (What lies beyond the machine is in e2e/test_network.py.)

mod rig;

use model::Network;
use ports::{Executor, InstanceSpec};
use process::{Isolation, ProcessExecutor, Settings};
use rig::{answer, newest_python, settings, spec, write};
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

/// Says what a connection to the address in its environment brought.
const VISITOR: &str = r#"import errno, os, socket
def handler(event, context):
    host, port = os.environ["ADDRESS"].rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            return connection.recv(100).decode()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
"#;

/// A server on the machine's loopback that greets everybody; its address.
fn greeter() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let _ = connection.expect("a connection").write_all(b"welcome");
        }
    });
    address
}

fn visitor(dir: &Path, network: Network, address: &str) -> InstanceSpec {
    let package = dir.join("package");
    write(&package.join("f.py"), VISITOR);
    let mut spec = spec(&newest_python(), "f.handler", &package);
    spec.network = Some(network);
    spec.environment.insert("ADDRESS".into(), address.into());
    spec
}

fn executor(settings: Settings) -> ProcessExecutor {
    ProcessExecutor::new(settings).expect("an executor")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machines_loopback_is_reached_where_an_endpoint_is_named_and_nowhere_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let (named, other) = (greeter(), greeter());
    let endpoints = [("AWS_ENDPOINT_URL_S3".to_string(), format!("http://{named}/path"))].into();
    let processes = executor(Settings { endpoints, ..settings(dir.path(), Isolation::Root) });
    for network in [Network::None, Network::Internet] {
        assert_eq!(answer(&processes, visitor(dir.path(), network, &named)).await, r#""welcome""#);
        assert_eq!(answer(&processes, visitor(dir.path(), network, &other)).await, r#""ECONNREFUSED""#);
    }
    assert_eq!(answer(&processes, visitor(dir.path(), Network::Host, &other)).await, r#""welcome""#);
}

#[tokio::test(flavor = "multi_thread")]
async fn brooklets_api_is_reached_once_it_is_known_where_it_listens() {
    let dir = tempfile::tempdir().expect("a folder");
    let api = greeter();
    let processes = executor(settings(dir.path(), Isolation::Root));
    processes.api_listens_on(api.parse().expect("an address"));
    let spec = visitor(dir.path(), Network::None, &api);
    assert_eq!(answer(&processes, spec).await, r#""welcome""#);
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_connect_to_nothing_take_no_connection_from_others() {
    let dir = tempfile::tempdir().expect("a folder");
    let named = greeter();
    let endpoints = [("AWS_ENDPOINT_URL".to_string(), format!("http://{named}"))].into();
    let only_one = Settings { endpoints, connections: 1, ..settings(dir.path(), Isolation::Root) };
    let processes = executor(only_one);
    let spec = || Arc::new(visitor(dir.path(), Network::Internet, &named));
    let idle = processes.start(spec(), "stream".into(), rig::nowhere()).await;
    assert!(idle.is_ok(), "an instance that is ready and does nothing");
    for _ in 0..3 {
        assert_eq!(answer(&processes, visitor(dir.path(), Network::Internet, &named)).await, r#""welcome""#);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_wait_once_one_was_needed_and_are_like_those_that_were_made_at_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let (named, other) = (greeter(), greeter());
    let endpoints = [("AWS_ENDPOINT_URL".to_string(), format!("http://{named}"))].into();
    let processes = executor(Settings { endpoints, ..settings(dir.path(), Isolation::Root) });
    assert_ne!(processes.isolation().await, Isolation::None);
    assert_eq!(processes.sandboxes(), 0, "the trial at the start makes none");
    for n in 0..3 {
        // Not stems: another variable each time, which interpreters look at while they boot.
        let with_own_boot = |network, address: &str| {
            let mut spec = visitor(dir.path(), network, address);
            spec.environment.insert("PYTHONHASHSEED".into(), (3 * n + network as u32).to_string());
            spec
        };
        assert_eq!(answer(&processes, with_own_boot(Network::None, &named)).await, r#""welcome""#);
        rig::until(|| processes.sandboxes() > 0).await;
        assert_eq!(answer(&processes, with_own_boot(Network::Internet, &other)).await, r#""ECONNREFUSED""#);
        rig::until(|| processes.sandboxes() > 0).await;
        assert_eq!(answer(&processes, with_own_boot(Network::Host, &other)).await, r#""welcome""#);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_users_are_taken_nobody_shares_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let only_one =
        Settings { users: Some(2_000_000..2_000_001), stems: 0, ..settings(dir.path(), Isolation::Root) };
    let processes = executor(only_one);
    let spec = || visitor(dir.path(), Network::None, "127.0.0.1:1");
    let first = rig::start(&processes, spec()).await;
    let second = answer(&processes, spec()).await;
    assert!(
        second.contains("Full") && second.contains("all 1 users that instances may be are taken"),
        "{second}"
    );
    first.stop(std::time::Duration::ZERO).await;
    drop(first);
    assert_eq!(answer(&processes, spec()).await, r#""ECONNREFUSED""#);
}
