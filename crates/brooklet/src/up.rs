//! Wires the crates together and serves until told to stop.
//!
//! Order matters: the data directory is locked before anything is read, what an earlier server left running is
//! ended before anything is started, and the port is bound last, so that whoever connects is answered.

use crate::commands::runtimes::install_command;
use crate::config::{Config, Isolation, unknown_variables};
use crate::error::{Doing, Error, Result};
use crate::exit::Exit;
use api::{AccessKeys, App, AppConfig};
use model::{Account, MiB, Secret};
use node::control::{ControlError, Limits, Options, Registry};
use node::logs::Logs;
use node::{Node, NodeConfig, histories, provision};
use policy::descriptors::Share;
use policy::keepalive;
use ports::Executor;
use process::{Issuer, ProcessExecutor, Settings};
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::{DataDir, EmbeddedStore, FileBlobs};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Initialisation is cut off after this long, or after the function's timeout when that is longer.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until SIGTERM or SIGINT, then drains.
pub async fn run(config: Config) -> Result<()> {
    log_to_stderr();
    let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    unknown_variables(variables).iter().for_each(|told| tracing::warn!("{told}"));
    let descriptors = descriptors()?;
    let mut terminate = signal(SignalKind::terminate()).doing(|| "listen for SIGTERM".into())?;
    let mut interrupt = signal(SignalKind::interrupt()).doing(|| "listen for SIGINT".into())?;

    let data = DataDir::open(&config.data_dir).map_err(data_dir_error)?;
    let account = Account { id: config.account_id.clone(), region: config.region.clone() };
    let logs = Logs::open(data.root(), config.log_limit).doing(|| "open the logs".into())?;
    let revealed = |(id, secret): (&String, &Secret)| (id.clone(), secret.reveal().to_owned());
    let keys: AccessKeys = config.access_keys.iter().map(revealed).collect();
    let executor = Arc::new(executor(&config, &data, &descriptors, credentials(&config, &keys))?);
    look_at_isolation(&executor, &config).await?;
    let processes = executor.clone();
    let registry = Arc::new(registry(&config, &data, &account, executor.clone())?);
    let keep_alive = keepalive::Config {
        policy: config.keep_alive,
        timeout: config.idle_timeout,
        bin: config.keep_alive_bin,
    };
    let node = Node::new(
        NodeConfig {
            account,
            concurrency_limit: config.account_concurrency,
            memory: memory_for_instances(config.memory_reserve),
            descriptors: descriptors.instances,
            keep_alive,
            freeze_after: config.freeze_after,
            page_out_after: if executor.pages_out() { config.page_out_after } else { Duration::MAX },
            init_timeout: INIT_TIMEOUT,
        },
        executor,
        logs.clone(),
    );
    follow_changes(&registry, &node).await?;
    if keep_alive.learns() {
        tokio::spawn(learn_from_records(
            registry.clone(),
            node.clone(),
            data.root().join("meter"),
            keep_alive.bin,
        ));
    }
    let listener =
        TcpListener::bind(config.listen).await.map_err(|error| address_error(&config.listen, &error))?;
    let address = listener.local_addr().doing(|| "ask for the address".into())?;
    processes.api_listens_on(address);
    // Instances start at once, so that they must know by now where the API is.
    provision::follow(registry.clone(), node.clone()).await.doing(|| "read what is provisioned".into())?;
    let app = App::new(AppConfig {
        registry: registry.clone(),
        invoker: Box::new(node.clone()),
        logs: logs.clone(),
        keys,
        metrics_token: config.metrics_token.clone(),
        url_authority: format!("localhost:{}", address.port()),
        local: address.ip().is_loopback(),
        version: env!("CARGO_PKG_VERSION"),
    });
    let sweeper = tokio::spawn(async move {
        forget_logs_without_a_function(&registry, &logs).await;
        registry.sweep_forever().await;
    });
    let thrift = tokio::spawn(give_back_what_a_load_took());
    announce(address);

    let mut told = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let connections = descriptors.connections as usize;
    let limits = api::Limits { connections, drain: config.drain_timeout, ..api::Limits::default() };
    let serving = tokio::spawn(async move {
        api::serve(listener, app, limits, async move { drop(stopped.await) }).await;
        node.shut_down(config.drain_timeout).await;
    });
    tracing::info!("{}: finishing what runs; once more ends it at once", told().await);
    drop(stop);
    tokio::select! {
        _ = serving => {}
        signal = told() => tracing::warn!("{signal} again: what still ran was cut off"),
    }
    sweeper.abort();
    thrift.abort();
    Ok(())
}

/// A server with nothing to do is to be small again.
async fn give_back_what_a_load_took() {
    const LOOK_EVERY: Duration = Duration::from_secs(5);
    /// Of processor time between two looks; less is idleness, an hour of which takes less than a second.
    const BUSY: Duration = Duration::from_millis(20);
    let (mut used, mut was_busy) = (Duration::ZERO, true);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let used_now = process::processor_time();
        let is_busy = used_now - used > BUSY;
        if was_busy && !is_busy {
            let _ = tokio::task::spawn_blocking(process::give_back_memory).await;
        }
        (used, was_busy) = (process::processor_time(), is_busy);
    }
}

/// Warnings and what the operator should know; `RUST_LOG` says more.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false)
        .try_init();
}

/// What earlier servers saw of the functions' idle times is in the meter records. Reading them may take a second, which
/// nobody should wait for. After a start of the machine it also says whose packages are worth unpacking at once.
async fn learn_from_records(registry: Arc<Registry>, node: Arc<Node>, meter: PathBuf, bin: Duration) {
    let began = std::time::Instant::now();
    let (now_ms, now) = (node::Clock::timestamp().as_millis(), node.now());
    let read = tokio::task::spawn_blocking(move || histories::from_records(&meter, bin, now_ms, now));
    let Ok(learned) = read.await else { return };
    tracing::info!(functions = learned.len(), took = ?began.elapsed(), "learned from the meter records how functions are called");
    let used: Vec<_> = learned.iter().map(|(function, version, _)| (function.clone(), *version)).collect();
    node.recall(learned);
    registry.unpack_ahead(used).await;
}

/// The line that scripts wait for.
fn announce(address: SocketAddr) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "brooklet is ready on http://{address}").and_then(|()| out.flush());
}

/// As many descriptors as the server may have, shared out among connections and instances.
fn descriptors() -> Result<Share> {
    let total = process::raise_open_files().doing(|| "raise the limit of open files".into())?;
    policy::descriptors::share(total).ok_or_else(|| {
        let least = policy::descriptors::MIN_TOTAL;
        Error::new(Exit::Failure, "refusing to start: too few files may be open")
            .because(format!("the hard limit is {total}; the server and one instance need {least}"))
            .fix("raise it: `ulimit -Hn` in a shell, LimitNOFILE= in a systemd service")
    })
}

/// Strict isolation is every wall and every limit; without it, what is missing is told.
async fn look_at_isolation(executor: &ProcessExecutor, config: &Config) -> Result<()> {
    let mut missing = Vec::new();
    if executor.isolation().await == process::Isolation::None {
        missing.push("functions are not walled in: neither root nor user namespaces are to be had");
    }
    let no_internet = executor.no_internet().map(|why| {
        format!("functions with network = \"internet\" reach no more than those with \"none\": {why}")
    });
    missing.extend(no_internet.as_deref());
    let no_users = executor.no_own_users().map(|why| format!("instances are all one user here: {why}"));
    missing.extend(no_users.as_deref());
    if executor.isolation().await == process::Isolation::Root {
        for other in executor.users_of_others() {
            tracing::warn!(
                "instances may be who somebody else is: the {other}; choose other numbers with `users`"
            );
        }
    }
    if !executor.enforced().memory || !executor.enforced().tasks {
        missing.push("memory and number of processes are not limited here: no control group to be had");
    }
    if process::landlock_abi().is_none_or(|abi| abi < process::OLDEST_LANDLOCK) {
        missing
            .push("there is no second wall behind the mounts: this kernel has no Landlock, or too old a one");
    }
    match config.isolation {
        Isolation::Strict if !missing.is_empty() => Err(Error::new(
            Exit::Failure,
            "refusing to start: isolation is strict, and this machine cannot give all of it",
        )
        .because(missing.join("; "))
        .fix("`brooklet doctor` says what is missing and how to get it; or say --isolation best-effort")),
        Isolation::Strict | Isolation::BestEffort => {
            missing.iter().for_each(|what| tracing::warn!("{what}"));
            Ok(())
        }
        Isolation::None => Ok(()),
    }
}

/// Runtimes that are kept booted ahead of need, when descriptors are not scarce: each takes about eight.
const STEMS: usize = 8;
const PLENTY: u64 = 256;

/// Whose credentials functions find in their environment.
fn credentials(config: &Config, keys: &AccessKeys) -> Issuer {
    match &config.credentials {
        Some(given) => {
            let given = given.clone();
            Issuer::new(move |_| given.clone())
        }
        None if keys.is_empty() => Issuer::default(),
        None => {
            let sessions = keys.sessions().clone();
            Issuer::new(move |function_arn| sessions.issue(function_arn))
        }
    }
}

fn executor(
    config: &Config,
    data: &DataDir,
    descriptors: &Share,
    credentials: Issuer,
) -> Result<ProcessExecutor> {
    let isolation = match config.isolation {
        Isolation::Strict | Isolation::BestEffort => process::Isolation::Root,
        Isolation::None => process::Isolation::None,
    };
    let settings = Settings {
        run_dir: data.root().join("run"),
        runtimes_dir: data.root().join("runtimes"),
        install: install_command(data.root()),
        isolation,
        network: config.network,
        endpoints: config.endpoints.clone(),
        credentials,
        connections: descriptors.relays as usize,
        stems: if u64::from(descriptors.instances) < PLENTY { 0 } else { STEMS },
        keep_alive: config.idle_timeout,
        training_runs: config.training_runs,
        users: config.users.clone(),
    };
    ProcessExecutor::new(settings).doing(|| format!("prepare {}", data.root().join("run").display()))
}

fn registry(
    config: &Config,
    data: &DataDir,
    account: &Account,
    executor: Arc<ProcessExecutor>,
) -> Result<Registry> {
    let options = Options {
        account: account.clone(),
        code_dir: data.code(),
        limits: Limits { account_concurrency: config.account_concurrency, ..Limits::default() },
        check_runtime: Arc::new(move |runtime, package| executor.check(runtime, package)),
    };
    let store = EmbeddedStore::open(data).map_err(data_dir_error)?;
    Registry::open(Arc::new(store), Arc::new(FileBlobs::new(data)), options)
        .doing(|| "open the functions' code".into())
}

/// The data plane hears of every change, and of the reservations there are.
async fn follow_changes(registry: &Arc<Registry>, node: &Arc<Node>) -> Result<()> {
    let follower = node.clone();
    registry.subscribe(move |change| follower.heed(change));
    for reservation in registry.reservations().await.doing(|| "read the reserved concurrency".into())? {
        node.reserve(&reservation.uid, Some(reservation.limit));
    }
    Ok(())
}

/// Removes logs of functions that were deleted when the server could not see to it any more.
async fn forget_logs_without_a_function(registry: &Registry, logs: &Arc<Logs>) {
    let held = logs.clone();
    let names = tokio::task::spawn_blocking(move || held.functions()).await.unwrap_or_default();
    for name in names {
        if let Err(ControlError::NotFound { .. }) = registry.function(&name, None).await {
            logs.forget(&name);
        }
    }
}

/// What the machine has, less what is to be left free, but never less than room for a few instances.
fn memory_for_instances(reserve_bytes: u64) -> MiB {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib =
        total.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(1 << 20);
    MiB::from_bytes_ceil((kib << 10).saturating_sub(reserve_bytes).max(256 << 20))
}

fn data_dir_error(error: store::OpenError) -> Error {
    let exit = match &error {
        store::OpenError::InUse { .. } => Exit::DataDirLocked,
        store::OpenError::NewerFormat { .. } => Exit::DataDirNewer,
        store::OpenError::Unusable { .. } | store::OpenError::Damaged { .. } => Exit::DataDirUnwritable,
    };
    Error::new(exit, error.to_string())
}

fn address_error(address: &SocketAddr, error: &std::io::Error) -> Error {
    let (exit, fix) = match error.kind() {
        ErrorKind::AddrInUse => (
            Exit::AddressTaken,
            "stop what uses the address, or choose another with --listen (port 0 takes a free one)",
        ),
        ErrorKind::AddrNotAvailable => (Exit::Failure, "name an address of this machine with --listen"),
        ErrorKind::PermissionDenied => (Exit::Failure, "choose a port above 1023 with --listen"),
        _ => (Exit::Failure, "choose another address with --listen"),
    };
    Error::new(exit, format!("cannot listen on {address}")).because(error).fix(fix)
}
