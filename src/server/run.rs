//! From settings to a running proxy, and to its end.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::inherited::Inherited;
use super::listen::{Door, Pulse};
use super::reload::Current;
use super::{banner, build, listen, reload, watchdog};
use crate::cache::Cache;
use crate::config::{Settings, Sources};
use crate::host::{BUFFERS, Budget, Changes, Limit, Spare, service};
use crate::proxy::{Audit, Proxy};
use crate::store::{ScrubPace, Store};
use crate::telemetry::{Metrics, Readings, Use};
use crate::wire::Guarded;
use crate::{admin, host, upstream};

/// How long requests under way may take after SIGTERM. Kubernetes kills after 30 s, so this is a little less.
const DRAIN: Duration = Duration::from_secs(25);

/// How long unfinished fills may take to be put away then.
const PUT_AWAY: Duration = Duration::from_secs(3);

/// How often the files of the configuration are looked at.
const LOOK: Duration = Duration::from_millis(500);

const SCRUB_AFTER: Duration = Duration::from_secs(600);

/// A proxy that serves. Dropping it does not stop it; [`Running::stop`] does.
pub struct Running {
    proxy: Arc<Proxy>,
    store: Store,
    metrics: Metrics,
    doors: Doors,
    pulses: Vec<Pulse>,
    current: Arc<Mutex<Current>>,
    sources: Sources,
    stop: CancellationToken,
    control: admin::control::Control,
}

/// The addresses that are listened on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doors {
    proxy: SocketAddr,
    admin: SocketAddr,
}

impl Doors {
    pub(super) fn addresses(self) -> Vec<SocketAddr> {
        vec![self.proxy, self.admin]
    }
}

impl Running {
    /// Opens everything and begins to serve. Call within a runtime.
    ///
    /// # Errors
    /// The first part that could not be opened, with its cure.
    pub async fn start(settings: Settings, sources: Sources) -> anyhow::Result<Self> {
        Self::start_on(Inherited::default(), settings, sources).await
    }

    /// As [`Running::start`], on the sockets that were passed to this process.
    async fn start_on(mut passed: Inherited, settings: Settings, sources: Sources) -> anyhow::Result<Self> {
        let metrics = Metrics::new();
        let stop = CancellationToken::new();
        let opening = settings.clone();
        let (ca, store, local) = tokio::task::spawn_blocking(move || {
            let ca = build::authority(&opening)?;
            let store = Store::open(&opening.cache).context("the cache cannot be opened")?;
            let local = build::local_tokens(store.root())?;
            anyhow::Ok((ca, store, local))
        })
        .await??;
        let (budget, limits) = (Budget::of_process(settings.clients.connections), settings.clients.limits());
        let mut open = |name, address, key| Door::open(passed.take(name), address, key, limits.stall);
        let (proxy_door, proxy_pulse) = open("proxy", settings.listen.proxy, "listen.proxy")?;
        let (admin_door, admin_pulse) = open("admin", settings.listen.admin, "listen.admin")?;
        store.files().set(budget.files);
        let doors = Doors { proxy: proxy_door.address()?, admin: admin_door.address()? };
        let building = (settings.clone(), ca.clone());
        let policy = tokio::task::spawn_blocking(move || {
            let (settings, ca) = building;
            let clients = build::clients(&settings, None)?;
            build::policy(&settings, ca, doors.addresses()).map(|policy| policy.with(clients))
        })
        .await??;
        tokio::spawn(scrub_later(store.clone(), stop.clone()));
        let cache = Cache::new(store.clone(), settings.fill, metrics.clone())?;
        let inventory = cache.inventory();
        let control = admin::control::Control::open(store.root(), inventory.clone())?;
        tokio::task::spawn_blocking(move || {
            if let Err(error) = inventory.restore_pins() {
                let error: &dyn std::error::Error = &error;
                warn!(error, "what is pinned and not here yet would not be kept");
            }
        });
        let proxy = Proxy::new(cache, store.clone(), metrics.clone(), local, policy);
        metrics.ca(ca.expiry());
        metrics.reload(true);
        let admin_places = Limit::new(budget.admin);
        observe(&metrics, &store, &proxy, &admin_places);
        let current = Arc::new(Mutex::new(Current { settings, ca }));
        let served = proxy.clone();
        tokio::spawn(listen::accept(proxy_door, stop.clone(), None, move |stream, peer| served.serve(stream, peer)));
        let (measured, places) = (metrics.clone(), admin_places.clone());
        let serve = move |stream, _| match places.take() {
            Some(place) => admin::serve(Guarded::new(stream, place), measured.clone()),
            None => drop(stream), // and counted
        };
        tokio::spawn(listen::accept(admin_door, stop.clone(), Some(Spare::new()), serve));
        let pulses = vec![proxy_pulse, admin_pulse];
        Ok(Self { proxy, store, metrics, doors, pulses, current, sources, stop, control })
    }

    /// The address of the proxy's door.
    #[must_use]
    pub fn proxy_address(&self) -> SocketAddr {
        self.doors.proxy
    }

    /// The address of the admin door.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.doors.admin
    }

    /// What a person needs next.
    #[must_use]
    pub fn banner(&self) -> String {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let registries: Vec<String> =
            current.settings.registries.iter().map(|registry| registry.name.clone()).collect();
        let proxy = &current.settings.upstream.proxy;
        let parents = (!proxy.0.is_empty()).then(|| proxy.to_string());
        let Doors { proxy, admin } = self.doors;
        banner::words(proxy, admin, &current.ca, &current.settings.ca.dir, &registries, parents.as_deref())
    }

    /// Reads the configuration again; what is wrong with it is logged and changes nothing.
    pub async fn reload(&self) {
        let (current, sources, doors) = (self.current.clone(), self.sources.clone(), self.doors);
        let (proxy, metrics) = (self.proxy.clone(), self.metrics.clone());
        let reloaded = tokio::task::spawn_blocking(move || {
            let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
            reload::reload(&mut current, &sources, &doors, &proxy, &metrics);
        });
        if reloaded.await.is_err() {
            warn!("the reload was interrupted");
        }
    }

    /// Comes back when the configuration, or a file that it names, was changed and has been at rest for a second.
    /// `changes` remembers between two calls. Cancel-safe: what was seen is not lost.
    async fn changed(&self, changes: &Arc<Mutex<Changes>>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (changes, current, sources) = (changes.clone(), self.current.clone(), self.sources.clone());
            let looked = tokio::task::spawn_blocking(move || {
                let current = current.lock().unwrap_or_else(PoisonError::into_inner);
                let mut changes = changes.lock().unwrap_or_else(PoisonError::into_inner);
                changes.watch(current.settings.files(&sources));
                changes.look(Instant::now())
            });
            if looked.await.unwrap_or(false) {
                return;
            }
        }
    }

    /// What the service manager shows.
    fn status(&self) -> String {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        format!("proxy on {}, {} registries", self.doors.proxy, current.settings.registries.len())
    }

    /// Accepts nothing more, lets requests under way finish within `deadline`, and closes the store. Answers
    /// whether all of them could finish.
    pub async fn stop(self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.control.close(); // before the folder's lock is let go
        let finished = self.proxy.drain(deadline).await;
        // What is on its way is remembered; a disk that takes long over it is not waited for beyond this.
        let _ = tokio::time::timeout(PUT_AWAY, self.proxy.cache.put_away()).await;
        let store = self.store.clone();
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        finished && closed.is_ok()
    }
}

/// Begins to verify what is stored, once the start is long over: those minutes belong to the clients.
async fn scrub_later(store: Store, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(SCRUB_AFTER) => store.scrub(Some(ScrubPace::default())),
    }
}

fn refused(store: &Store, proxy: &Proxy, admin: &Limit) -> Vec<(&'static str, u64)> {
    let others = [
        ("files", store.files().refused()),
        ("upstream", upstream::sockets_refused()),
        ("descriptors", upstream::exhaustions()),
        ("admin", admin.refused()),
    ];
    proxy.refused().into_iter().chain(others).collect()
}

fn uses(store: &Store, proxy: &Proxy) -> Vec<Use> {
    let [connections, bodies] = proxy.usage();
    let files = (store.files().used(), store.files().most());
    let buffers = (BUFFERS.held(), BUFFERS.budget());
    let all = [
        ("connections", connections),
        ("bodies", bodies),
        ("files", files),
        ("buffers", buffers),
        ("answers", upstream::answers_held()),
        ("upstream", upstream::sockets_used()),
        ("downloads", upstream::downloads_used()),
    ];
    all.into_iter().map(|(what, (used, limit))| Use { what, used: used as u64, limit: limit as u64 }).collect()
}

/// Within a runtime, whose tasks are counted.
fn observe(metrics: &Metrics, store: &Store, proxy: &Arc<Proxy>, admin: &Limit) {
    let (store, proxy, admin) = (store.clone(), proxy.clone(), admin.clone());
    let runtime = tokio::runtime::Handle::current().metrics();
    metrics.observe(move || {
        let usage = store.usage();
        Readings {
            cache_bytes: usage.bytes,
            cache_entries: usage.entries,
            disk_free_bytes: usage.disk_free,
            evictions: usage.evictions,
            disk_trouble: store.disk_fault().is_some(),
            damaged_chunks: usage.damaged,
            leaf_certificates: proxy.policy().leaves_minted(),
            audit_lines_lost: proxy.policy().clients.audit.as_ref().map_or(0, Audit::dropped),
            tasks: runtime.num_alive_tasks() as u64,
            uses: uses(&store, &proxy),
            refused: refused(&store, &proxy, &admin),
        }
    });
}

/// Runs the proxy until SIGTERM or SIGINT: the whole life of `pullthrough serve`.
///
/// # Errors
/// What could not be opened.
pub fn run(settings: Settings, sources: Sources) -> anyhow::Result<()> {
    crate::telemetry::init(&settings.log)?;
    for notice in &settings.notices {
        warn!("{notice}");
    }
    if let Some(limit) = host::raise_file_limit().filter(|limit| *limit < 4096) {
        warn!(
            limit,
            "few files may be open at a time; raise the limit (LimitNOFILE=) for more than a handful of clients"
        );
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime cannot be started")?;
    let served = runtime.block_on(serve(settings, sources));
    crate::telemetry::flush();
    served
}

async fn serve(settings: Settings, sources: Sources) -> anyhow::Result<()> {
    // Before anything is opened, so that a signal during a slow start is not the default's sudden death.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let passed = Inherited::from_environment()?;
    let changes = Arc::new(Mutex::new(Changes::of(settings.files(&sources))));
    let mut running = Running::start_on(passed, settings, sources).await?;
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(running.banner().as_bytes()).and_then(|()| stdout.flush()); // a closed stdout is no reason to stop
    let (draining, gone) = (running.stop.clone(), CancellationToken::new());
    if let Some(period) = service::watchdog() {
        tokio::spawn(watchdog::watch(period, std::mem::take(&mut running.pulses), draining, gone.clone()));
    }
    service::ready(&running.status());
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {}
            () = running.changed(&changes) => info!("the configuration or a file that it names has changed"),
        }
        service::reloading();
        running.reload().await;
        service::ready(&running.status());
    }
    service::stopping("lets requests under way finish");
    info!(seconds = DRAIN.as_secs(), "stopping: requests under way may finish; a second signal ends them");
    let finished = tokio::select! {
        finished = running.stop(DRAIN) => finished,
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
    };
    gone.cancel();
    info!(finished, "stopped");
    Ok(())
}
