//! A proxy with one registry, in one thread, in a time that passes where nothing else happens: what waits for a client
//! that says no more times out at once.

use std::cell::LazyCell;
use std::mem::ManuallyDrop;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::runtime::{Builder, Runtime};

use crate::cache::{Cache, FillConfig, GrantsConfig, TagsConfig};
use crate::fuzzing::Folder;
use crate::host::Percent;
use crate::oci::Authority;
use crate::proxy::state::Proxy;
use crate::proxy::{
    Action, Arrival, Auth, Clients, ClientsConfig, Door, Effect, LocalTokens, Policy, Prefetch, Push, Registry,
    RegistrySettings, RuleConfig, TunnelConfig, TunnelDefault,
};
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::upstream::{AddressRules, EndpointConfig, Tokens, Upstream};
use crate::{ca, store};

/// The registry, and who asks.
pub(crate) const REGISTRY: &str = "quay.io";
pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const FROM: Arrival = Arrival { address: CLIENT, door: Door::Proxy };
/// Nothing waits for so long.
const DAY: Duration = Duration::from_secs(86_400);
/// More than an input is.
const PIPE: usize = 1 << 20;

thread_local! {
    static FOLDER: LazyCell<Folder> = const { LazyCell::new(Folder::new) };
    // A runtime cannot be ended while its thread's values are dropped.
    static STAGE: LazyCell<ManuallyDrop<Stage>> = const { LazyCell::new(|| ManuallyDrop::new(Stage::new())) };
}

/// The proxy and where it runs.
pub(crate) struct Stage {
    runtime: Runtime,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) registry: Arc<Registry>,
}

/// Runs `play` on this thread's stage.
pub(crate) fn on_stage<T>(play: impl FnOnce(&Stage) -> T) -> T {
    STAGE.with(|stage| play(stage))
}

pub(crate) fn authority() -> Authority {
    Authority::parse(REGISTRY, 443).unwrap()
}

impl Stage {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let root = FOLDER.with(|folder| folder.path().to_owned());
        let registry = Arc::new(Registry::new(&settings()).unwrap());
        let proxy = runtime.block_on(async {
            let ca = ca::Config { dir: root.join("ca"), ..ca::Config::default() };
            let permitted = ca::Permitted::of([&REGISTRY.parse().unwrap()]).unwrap();
            let permitted = permitted.and_hosts(["localhost".parse().unwrap()]);
            let ca = Arc::new(ca::CertificateAuthority::open(&ca, &permitted).unwrap());
            let config = store::Config { dir: root.join("cache"), max_size: None, min_free: Percent(0) };
            let store = Store::open(&config).unwrap();
            let metrics = Metrics::new();
            let cache = Cache::new(store.clone(), FillConfig::default(), metrics.clone()).unwrap();
            let upstream = Upstream::new(&Default::default(), &settings().endpoints, AddressRules::default()).unwrap();
            let tokens = Tokens::new(upstream.clone()).unwrap();
            let tunnel = TunnelConfig { default: TunnelDefault::Deny, ..TunnelConfig::default() };
            let registries = vec![registry.clone()];
            let policy = Policy::new(registries, tunnel, &ClientsConfig::default(), tokens, upstream, ca);
            let clients = Clients { rules: crate::proxy::Rules::new(&[rule()]), ..Clients::default() };
            Proxy::new(cache, store, metrics, LocalTokens::of_this_run().unwrap(), policy.with(clients))
        });
        Self { runtime, proxy, registry }
    }

    /// What a client reads that sends `data` on a connection served by `serve`, until that ends.
    pub(crate) fn talk<F>(&self, data: &[u8], serve: impl FnOnce(Arc<Proxy>, DuplexStream) -> F) -> Vec<u8>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut answer = Vec::new();
        let (mut near, far) = tokio::io::duplex(PIPE);
        self.run(async {
            let serving = tokio::spawn(serve(self.proxy.clone(), far));
            let _ = near.write_all(data).await; // a server may end before it has read all
            let _ = near.read_to_end(&mut answer).await;
            serving.await.expect("a connection does not panic");
        });
        answer
    }

    /// Runs to the end, which nothing may keep from coming.
    pub(crate) fn run<T>(&self, play: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(DAY, play).await.expect("nothing hangs") })
    }
}

/// Nobody has a right to anything in `internal/`.
fn rule() -> RuleConfig {
    RuleConfig {
        name: "no-internal".into(),
        effect: Effect::Deny,
        users: Vec::new(),
        networks: Vec::new(),
        registries: Vec::new(),
        repositories: vec!["internal/*".parse().unwrap()],
        actions: vec![Action::Pull, Action::Push],
    }
}

/// Pushes pass.
fn settings() -> RegistrySettings {
    // Nobody listens there: what is asked of the registry by a mirror's name stays on this machine.
    let nowhere = Some((Ipv4Addr::LOCALHOST, 9).into());
    let endpoint = EndpointConfig { address: nowhere, ..EndpointConfig::of_url(format!("https://{REGISTRY}")) };
    RegistrySettings {
        name: REGISTRY.into(),
        hosts: vec![REGISTRY.parse().unwrap()],
        endpoints: vec![endpoint],
        token_hosts: Vec::new(),
        named: true,
        realms: Vec::new(),
        auth: Auth::Client,
        push: Push::Allow,
        prefetch: Prefetch(0),
        tags: TagsConfig::default(),
        grants: GrantsConfig::default(),
    }
}
