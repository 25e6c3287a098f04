//! Runs the proxy, from the settings to the shutdown.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::banner::{self, Banner};
use super::inherited::Inherited;
use super::listen::{Addresses, Heartbeat, Listener};
use super::reload::Current;
use super::{build, expiry, listen, reload, watchdog};
use crate::cache::Cache;
use crate::config::{ConfigSources, Settings};
use crate::host::{BUFFERS, Budget, Changes, Limit, Spare, TaskGroup, service};
use crate::proxy::{Audit, Door, Proxy};
use crate::store::{Disk, ScrubPace, Store};
use crate::telemetry::{Format, Metrics, Readings, Use};
use crate::wire::Guarded;
use crate::{admin, host, upstream};

/// How long saving unfinished fills may take after a drain.
const SAVE: Duration = Duration::from_secs(3);

/// How long the end may take after a drain in all: saving, closing the catalog, and a busy machine.
const END: Duration = Duration::from_secs(30);

/// How often the files of the configuration are checked for changes.
const CHECK: Duration = Duration::from_millis(500);

/// How long after the start the verification of stored blobs begins.
const SCRUB_AFTER: Duration = Duration::from_secs(600);

/// A running proxy. Dropping it does not stop it; [`Running::stop`] does.
pub struct Running {
    proxy: Arc<Proxy>,
    store: Store,
    metrics: Metrics,
    addresses: Addresses,
    heartbeats: Vec<Heartbeat>,
    current: Arc<Mutex<Current>>,
    sources: ConfigSources,
    stop: CancellationToken,
    control: admin::control::Control,
}

impl Running {
    /// Opens every part and starts to serve. Call within a runtime.
    ///
    /// # Errors
    /// The first part that could not be opened, and how to fix it.
    pub async fn start(settings: Settings, sources: ConfigSources) -> anyhow::Result<Self> {
        Self::start_over(Disk::default(), settings, sources).await
    }

    /// Like [`Running::start`], over a [`Disk`] that a test watches.
    ///
    /// # Errors
    /// As [`Running::start`].
    pub async fn start_over(disk: Disk, settings: Settings, sources: ConfigSources) -> anyhow::Result<Self> {
        Self::start_on(Inherited::default(), disk, settings, sources).await
    }

    /// Like [`Running::start`], on the sockets that were passed to this process.
    async fn start_on(
        mut passed: Inherited,
        disk: Disk,
        settings: Settings,
        sources: ConfigSources,
    ) -> anyhow::Result<Self> {
        let metrics = Metrics::new();
        let stop = CancellationToken::new();
        let opening = settings.clone();
        let (ca, store, local) = tokio::task::spawn_blocking(move || {
            let ca = build::authority(&opening)?;
            let store = Store::open_on(&opening.cache, disk).context("cannot open the cache")?;
            let local = build::local_tokens(store.root())?;
            anyhow::Ok((ca, store, local))
        })
        .await??;
        let (budget, limits) = (Budget::of_process(settings.clients.connections), settings.clients.limits());
        let mut open = |name, address, key| Listener::open(passed.take(name), address, key, limits.stall);
        let (admin_listener, admin_heartbeat) = open("admin", settings.listen.admin, "listen.admin")?;
        let (mut doors, mut heartbeats) = (Vec::new(), vec![admin_heartbeat]);
        for (door, key, address) in settings.listen.doors() {
            let (listener, heartbeat) = open(door.label(), address, key)?;
            heartbeats.push(heartbeat);
            doors.push((door, listener));
        }
        passed.end()?;
        store.files().set(budget.files);
        let of_doors = doors.iter().map(|(door, listener)| Ok((*door, listener.address()?)));
        let addresses = Addresses { admin: admin_listener.address()?, doors: of_doors.collect::<io::Result<_>>()? };
        let building = (settings.clone(), ca.clone(), addresses.clone());
        let policy = tokio::task::spawn_blocking(move || {
            let (settings, ca, addresses) = building;
            let clients = build::clients(&settings, None)?;
            build::policy(&settings, ca, &addresses, &TaskGroup::new()).map(|policy| policy.with(clients))
        })
        .await??;
        tokio::spawn(scrub_later(store.clone(), stop.clone()));
        let cache = Cache::new(store.clone(), settings.fill, metrics.clone())?;
        let inventory = cache.inventory();
        let restoring = inventory.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = restoring.restore_pins() {
                let error: &dyn std::error::Error = &error;
                warn!(error, "cannot restore the pins; pinned content that is not cached yet would not be kept");
            }
        });
        let proxy = Proxy::new(cache, store.clone(), metrics.clone(), local, policy);
        let known = Arc::downgrade(&proxy);
        let outages = move |registry: &str| known.upgrade().map(|proxy| proxy.outages(registry)).unwrap_or_default();
        let control = admin::control::Control::open(store.root(), inventory.with_outages(outages))?;
        metrics.ca(ca.expiry());
        tokio::spawn(expiry::watch(Arc::downgrade(&proxy), stop.clone()));
        metrics.reload(true);
        let admin_places = Limit::new(budget.admin);
        observe(&metrics, &store, &proxy, &admin_places);
        let current = Arc::new(Mutex::new(Current { settings, ca, failed: None }));
        for (door, listener) in doors {
            if door == Door::Transparent && !listener.takes_foreign_addresses() {
                debug!("the transparent listener takes what DNS and REDIRECT lead to it; TPROXY needs CAP_NET_ADMIN");
            }
            let served = proxy.clone();
            let serve = move |socket, peer| served.serve(socket, peer, door);
            tokio::spawn(listen::accept(listener, stop.clone(), None, serve));
        }
        let (measured, places, pages) = (metrics.clone(), admin_places, proxy.clone());
        let serve = move |socket, peer| {
            let Some(place) = places.take() else { return }; // and counted
            let (pages, measured) = (pages.clone(), measured.clone());
            let introduced = async move {
                let Some((stream, _)) = pages.introduced(socket, peer).await else { return };
                let public = move |path: String| {
                    let pages = pages.clone();
                    async move { pages.public_page(&path).await }
                };
                admin::serve(Guarded::new(stream, place), measured, public);
            };
            tokio::spawn(introduced);
        };
        tokio::spawn(listen::accept(admin_listener, stop.clone(), Some(Spare::new()), serve));
        Ok(Self { proxy, store, metrics, addresses, heartbeats, current, sources, stop, control })
    }

    /// The address of the proxy listener.
    #[must_use]
    pub fn proxy_address(&self) -> SocketAddr {
        self.addresses.proxy()
    }

    /// The address of the admin listener.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.addresses.admin
    }

    /// The address of the listener of this door, if it is open.
    #[must_use]
    pub fn door_address(&self, door: Door) -> Option<SocketAddr> {
        self.addresses.of(door)
    }

    /// The next steps for a person, printed at start.
    #[must_use]
    pub fn banner(&self) -> String {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let registries: Vec<String> =
            current.settings.registries.iter().map(|registry| registry.name.clone()).collect();
        let proxy = &current.settings.upstream.proxy;
        let parents = (!proxy.0.is_empty()).then(|| proxy.to_string());
        banner::words(&Banner {
            addresses: &self.addresses,
            ca: &current.ca,
            ca_dir: &current.settings.ca.dir,
            configuration: current.settings.file.as_deref(),
            registries: &registries,
            parents: parents.as_deref(),
            has_users: current.settings.clients.htpasswd.is_some(),
        })
    }

    /// Whether each line of the output is JSON.
    #[must_use]
    fn speaks_json(&self) -> bool {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).settings.log.format == Format::Json
    }

    /// Logs what has started: the version, where it listens, and how much it may use.
    fn log_start(&self) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let file = |file: &Option<PathBuf>| file.as_ref().map(|file| file.display().to_string());
        let [(_, connections), (_, bodies)] = self.proxy.usage();
        let usage = self.store.usage();
        info!(
            version = env!("CARGO_PKG_VERSION"),
            configuration = file(&current.settings.file).unwrap_or_else(|| "defaults".to_owned()),
            proxy = self.addresses.told(Door::Proxy),
            transparent = self.addresses.told(Door::Transparent),
            admin = %self.addresses.admin,
            mirror = self.addresses.told(Door::Mirror),
            registries = current.settings.registries.len(),
            cache = %current.settings.cache.dir.display(),
            cache_limit_bytes = usage.limit,
            min_free_bytes = usage.min_free,
            connections,
            bodies,
            open_files = host::open_file_limit(),
            memory_bytes = host::memory_limit(),
            fingerprint = current.ca.fingerprint(),
            "started"
        );
    }

    /// Reads the configuration again. Its mistakes are logged; then nothing changes.
    pub async fn reload(&self) {
        let (current, sources, addresses) = (self.current.clone(), self.sources.clone(), self.addresses.clone());
        let (proxy, metrics) = (self.proxy.clone(), self.metrics.clone());
        let reloaded = tokio::task::spawn_blocking(move || {
            let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
            reload::reload(&mut current, &sources, &addresses, &proxy, &metrics);
        });
        if reloaded.await.is_err() {
            warn!("the reload was interrupted");
        }
    }

    /// Returns when the configuration, or a file that it names, has changed and then stayed the same for a second, with
    /// the files that have; with none when a configuration that could not be read is to be tried again. `changes` keeps
    /// the state between calls. Cancel-safe: a change that was seen is not lost.
    async fn changed(&self, changes: &Arc<Mutex<Changes>>) -> Vec<PathBuf> {
        let mut ticks = tokio::time::interval(CHECK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (changes, current, sources) = (changes.clone(), self.current.clone(), self.sources.clone());
            let checked = tokio::task::spawn_blocking(move || {
                let current = current.lock().unwrap_or_else(PoisonError::into_inner);
                let mut changes = changes.lock().unwrap_or_else(PoisonError::into_inner);
                changes.watch(current.settings.files(&sources));
                let changed = changes.look(Instant::now());
                (!changed.is_empty() || current.is_due()).then_some(changed)
            });
            if let Ok(Some(changed)) = checked.await {
                return changed;
            }
        }
    }

    /// The status that the service manager shows.
    fn status(&self) -> String {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        format!(
            "proxy on {}, {} registries",
            self.addresses.told(Door::Proxy).unwrap_or_default(),
            current.settings.registries.len()
        )
    }

    /// How long a stop lets requests in progress go on, as the configuration in force says.
    fn drain(&self) -> Duration {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).settings.drain.0
    }

    /// Stops accepting, lets requests in progress finish within `deadline`, and closes the store. Returns whether all of
    /// them finished.
    pub async fn stop(self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.control.close(); // before the folder's lock is released
        let finished = self.proxy.drain(deadline).await;
        // Unfinished fills are saved, and work in the background ends; a slow disk is not waited for beyond this time.
        let ended = async { tokio::join!(self.proxy.cache.stop(), self.proxy.background.stop()) };
        let _ = tokio::time::timeout(SAVE, ended).await;
        let store = self.store.clone();
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        finished && closed.is_ok()
    }
}

/// Starts to verify stored blobs long after the start: the first minutes belong to the clients.
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

/// Registers the gauges. Call within the runtime whose tasks are counted.
fn observe(metrics: &Metrics, store: &Store, proxy: &Arc<Proxy>, admin: &Limit) {
    let (store, proxy, admin) = (store.clone(), proxy.clone(), admin.clone());
    let runtime = tokio::runtime::Handle::current().metrics();
    metrics.observe(move || {
        let usage = store.usage();
        Readings {
            cache_bytes: usage.bytes,
            cache_limit_bytes: usage.limit,
            cache_entries: usage.entries,
            disk_free_bytes: usage.disk_free,
            disk_size_bytes: usage.disk_size,
            evictions: usage.evictions,
            evicted_bytes: usage.evicted_bytes,
            disk_trouble: store.disk_fault().is_some(),
            damaged_chunks: usage.damaged,
            leaf_certificates: proxy.policy().leaves_minted(),
            audit_lines_lost: proxy.policy().clients.audit.as_ref().map_or(0, Audit::dropped),
            tasks: runtime.num_alive_tasks() as u64,
            uses: uses(&store, &proxy),
            refused: refused(&store, &proxy, &admin),
            endpoints: proxy.endpoints_up(),
            registries: proxy.registries(),
        }
    });
}

/// Runs the proxy until SIGTERM or SIGINT; this is all of `pullthrough serve`.
///
/// # Errors
/// The part that could not be opened.
pub fn run(settings: Settings, sources: ConfigSources) -> anyhow::Result<()> {
    crate::telemetry::init(&settings.log);
    for notice in &settings.notices {
        warn!("{notice}");
    }
    if let Some(limit) = host::raise_file_limit().filter(|limit| *limit < 4096) {
        warn!(limit, "the limit on open files is low; raise it (LimitNOFILE=) to serve more than a handful of clients");
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let served = runtime.block_on(serve(settings, sources));
    crate::telemetry::flush();
    served
}

async fn serve(settings: Settings, sources: ConfigSources) -> anyhow::Result<()> {
    // Before anything is opened: by default, a signal during a slow start would kill the process at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let passed = Inherited::from_environment()?;
    let changes = Arc::new(Mutex::new(Changes::of(settings.files(&sources))));
    let mut running = Running::start_on(passed, Disk::default(), settings, sources).await?;
    running.log_start();
    if !running.speaks_json() {
        let mut stdout = io::stdout();
        let _ = stdout.write_all(running.banner().as_bytes()).and_then(|()| stdout.flush()); // a closed stdout is no reason to stop
    }
    let (draining, gone) = (running.stop.clone(), CancellationToken::new());
    if let Some(period) = service::watchdog() {
        tokio::spawn(watchdog::watch(period, std::mem::take(&mut running.heartbeats), draining, gone.clone()));
    }
    service::ready(&running.status());
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {}
            changed = running.changed(&changes) => {
                if changed.is_empty() {
                    running.reload().await;
                    service::ready(&running.status());
                    continue;
                }
                let files: Vec<String> = changed.iter().map(|file| file.display().to_string()).collect();
                info!(files = files.join(", "), "the configuration, or a file that it names, has changed");
            }
        }
        service::reloading();
        running.reload().await;
        service::ready(&running.status());
    }
    let drain = running.drain();
    service::stopping("waiting for requests in progress to finish", drain + END);
    info!(seconds = drain.as_secs(), "stopping: requests in progress may finish; a second signal ends them");
    let finished = tokio::select! {
        finished = running.stop(drain) => finished,
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
    };
    gone.cancel();
    info!(finished, "stopped");
    Ok(())
}
