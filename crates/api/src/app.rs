//! What the faces share: the control plane, the data plane, logs, keys.

use crate::auth::AccessKeys;
use crate::auth::bearer::Token;
use crate::auth::link::Links;
use model::{Account, Version};
use node::Node;
use node::control::{Registry, Target};
use node::invoke::{InvokeRequest, Invoked, Refusal};
use node::logs::Logs;
use node::provision::Provisioned;
use ports::BoxFuture;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Semaphore, watch};

/// Runs functions: [`Node`], or a fake in tests.
pub trait Invoker: Send + Sync + 'static {
    /// Runs a function once. The invocation must go on when the returned future is dropped.
    fn invoke(&self, target: Target, request: InvokeRequest) -> BoxFuture<'_, Result<Invoked, Refusal>>;

    /// How what is provisioned of a version stands, of which this many requests were asked for.
    fn provisioned(&self, _uid: &str, _version: Version, _requests: u32) -> Provisioned {
        Provisioned::default()
    }

    /// What was counted, in the text format of OpenMetrics.
    fn metrics(&self) -> String {
        "# EOF\n".into()
    }

    /// Lets go of a version's instances that run nothing and are not provisioned.
    fn let_idle_go(&self, _target: &Target) {}
}

impl Invoker for Arc<Node> {
    fn invoke(&self, target: Target, request: InvokeRequest) -> BoxFuture<'_, Result<Invoked, Refusal>> {
        Box::pin(Node::invoke(self, target, request))
    }

    fn provisioned(&self, uid: &str, version: Version, requests: u32) -> Provisioned {
        Node::provisioned(self, uid, version, requests)
    }

    fn metrics(&self) -> String {
        Node::metrics(self)
    }

    fn let_idle_go(&self, target: &Target) {
        Node::let_idle_go(self, target);
    }
}

/// What an [`App`] is made of.
pub struct AppConfig {
    /// The control plane.
    pub registry: Arc<Registry>,
    /// The data plane.
    pub invoker: Box<dyn Invoker>,
    /// What functions wrote.
    pub logs: Arc<Logs>,
    /// Who may call; empty: everyone.
    pub keys: AccessKeys,
    /// With which the metrics can be read without an access key.
    pub metrics_token: Option<Token>,
    /// The host and port that function URLs end in: `localhost:9170`.
    pub url_authority: String,
    /// Whether only this machine reaches the server. Without access keys, browsers are then kept from calling
    /// it for pages of other sites (see `guard`).
    pub local: bool,
    /// Brooklet's version.
    pub version: &'static str,
}

/// All that requests are answered with.
pub struct App {
    pub(crate) registry: Arc<Registry>,
    pub(crate) invoker: Box<dyn Invoker>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) keys: AccessKeys,
    pub(crate) metrics_token: Option<Token>,
    pub(crate) links: Links,
    pub(crate) url_authority: String,
    pub(crate) local: bool,
    pub(crate) version: &'static str,
    pub(crate) started: Instant,
    /// Deployment packages that may be received at once: each may take 200 MiB on its way.
    pub(crate) uploads: Semaphore,
    /// Log files that may be read at once: each reading has a thread for as long as its client takes to read along, and
    /// must leave threads to everything else.
    pub(crate) readings: Arc<Semaphore>,
    ready: watch::Sender<bool>,
}

/// Log files read at once.
const READINGS: usize = 64;

/// Uploads at once.
const UPLOADS: usize = 4;

impl App {
    /// Not ready yet; the server that serves it makes it so.
    pub fn new(config: AppConfig) -> Arc<App> {
        let AppConfig { registry, invoker, logs, keys, metrics_token, url_authority, local, version } =
            config;
        Arc::new(App {
            registry,
            invoker,
            logs,
            keys,
            metrics_token,
            links: Links::new(),
            url_authority,
            local,
            version,
            started: Instant::now(),
            uploads: Semaphore::new(UPLOADS),
            readings: Arc::new(Semaphore::new(READINGS)),
            ready: watch::Sender::new(false),
        })
    }

    /// Whose functions these are.
    pub fn account(&self) -> &Account {
        self.registry.account()
    }

    /// Whether requests are welcome: from the first accepted connection until shutdown begins.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.send_replace(ready);
    }

    /// Resolves when shutdown begins: for answers that would never end by themselves.
    pub(crate) async fn closing(&self) {
        // Not an error: the sender is in `self`.
        let _ = self.ready.subscribe().wait_for(|ready| !ready).await;
    }
}
