//! Is the interface of the catalog: changes that do not wait, and lookups that see all earlier changes.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use super::batch::Batch;
use super::change::Change;
use super::command::{WriterCommand, WriterState};
use super::entry::{Content, LINK_LIFE, Learned, Link, Ping, TagEntry};
use super::inventory::Survey;
use super::key::{micros, time};
use super::open_questions::OpenQuestions;
use super::query;
use super::queue::Queue;
use super::reader::CatalogReader;
use super::schema::{self, is_damage};
use super::writer::CatalogWriter;
use crate::oci::{Accept, Digest, Repository, Tag};
use crate::store::Error;
use crate::store::health::StoreHealth;
use crate::store::ledger::Ledger;
use crate::store::lock::lock;

/// The capacity of the queue. A thread stuck on a failing disk must not fill the memory.
const QUEUE: usize = 16 * 1024;
/// And so many KiB of lists: one may be 1 MiB.
const QUEUED_LISTS: usize = 8 << 10;

/// The catalog of the blobs. One thread owns the database; every call here is a command to that thread.
pub struct Catalog {
    queue: Arc<Queue>,
    shared: Arc<WriterState>,
    folder: PathBuf,
    thread: Mutex<Option<JoinHandle<()>>>,
    open: Arc<OpenQuestions>,
    /// The room for lists in the queue, in KiB.
    pub(crate) list_room: Arc<Semaphore>,
}

impl Catalog {
    /// Opens the catalog in `folder` and starts its thread. Returns whether it was created just now. `rebuild` is sent
    /// to when it had to be replaced later.
    pub(crate) fn open(
        folder: PathBuf,
        ledger: Arc<Ledger>,
        rebuild: mpsc::Sender<()>,
        health: Arc<StoreHealth>,
    ) -> Result<(Self, bool), Error> {
        let opened = schema::open(&folder)?;
        let new = opened.new;
        let shared = Arc::new(WriterState {
            uses: Mutex::default(),
            clock: 0.into(),
            generation: Arc::default(),
            divergences: 0.into(),
            reconciled: 0.into(),
            rebuild,
            health,
        });
        let failed = |source| Error::Catalog { doing: "be opened", source };
        let batch = Batch::new(opened, folder.clone(), ledger, Arc::clone(&shared)).map_err(failed)?;
        let (commands, tasks) = mpsc::sync_channel(QUEUE);
        let queue = Arc::new(Queue::new(commands));
        let writer = CatalogWriter::new(batch, Arc::clone(&shared), Arc::clone(&queue));
        let thread = thread::Builder::new().name("catalog".into()).spawn(move || writer.run(&tasks));
        let thread = thread.map_err(|source| Error::io("start the thread of", &folder.join(schema::FILE), source))?;
        let list_room = Arc::new(Semaphore::new(QUEUED_LISTS));
        Ok((Self { queue, shared, folder, thread: Mutex::new(Some(thread)), open: Arc::default(), list_room }, new))
    }

    /// The digest's links in a repository: at most one for each kind of content and right. Links that were not proven
    /// for 7 days, and links of removed content, are not returned.
    ///
    /// # Errors
    /// [`Error::Catalog`], [`Error::Busy`] or [`Error::Closed`]: nothing is known then.
    pub async fn links(&self, registry: &str, repository: &Repository, digest: &Digest) -> Result<Vec<Link>, Error> {
        let (registry, repository, digest) = (Arc::from(registry), repository.clone(), *digest);
        let since = micros(SystemTime::now() - LINK_LIFE);
        self.ask("look up links", move |on| query::links(on, &registry, &repository, &digest, since)).await
    }

    /// Whether stored content may be released on the word of `registry` alone: it was once served without credentials
    /// anywhere, or with any by this registry. Otherwise this registry must deliver it itself, since it could answer
    /// 200 to every HEAD to get content that another one served to a client with credentials.
    ///
    /// # Errors
    /// As [`Catalog::links`].
    pub async fn is_shared(&self, registry: &str, digest: &Digest) -> Result<bool, Error> {
        let (registry, digest) = (registry.to_owned(), *digest);
        let since = micros(SystemTime::now() - LINK_LIFE);
        self.ask("look up links", move |on| query::is_shared(on, &registry, &digest, since)).await
    }

    /// Records a link. Recording it again renews its proof, and its media type if there is one.
    pub fn record_link(&self, mut link: Link) {
        // A clock that was ahead must not make a link immortal.
        link.proven = link.proven.min(SystemTime::now());
        self.offer(Change::Link(link));
    }

    /// When `registry` last said that anyone may read the repository, unless it withdrew that.
    ///
    /// # Errors
    /// As [`Catalog::links`].
    pub async fn public(&self, registry: &str, repository: &Repository) -> Result<Option<SystemTime>, Error> {
        let (registry, repository) = (registry.to_owned(), repository.clone());
        let proven = self.ask("look up a repository", move |on| query::public(on, &registry, &repository)).await?;
        Ok(proven.map(time))
    }

    /// Records that `registry` said so at that time, or that it withdrew it. A withdrawal is never dropped.
    pub fn record_public(&self, registry: &str, repository: &Repository, proven: Option<SystemTime>) {
        let (registry, repository) = (registry.into(), repository.clone());
        let proven = proven.map(|proven| micros(proven.min(SystemTime::now())));
        let change = Change::Public { registry, repository, proven };
        if change.is_withdrawal() { self.queue.send_retained(change) } else { self.offer(change) }
    }

    /// Where answers for the repository were redirected to, as long as there are links of it: host, and repository or nothing.
    ///
    /// # Errors
    /// As [`Catalog::links`].
    pub async fn detours(&self, registry: &str, repository: &Repository) -> Result<Vec<(String, String)>, Error> {
        let (registry, repository) = (registry.to_owned(), repository.clone());
        self.ask("look up redirects", move |on| query::detours(on, &registry, &repository)).await
    }

    /// Records that an answer for the repository was redirected to the repository `to`, or any if it is empty, at `host`.
    /// It is never dropped: what comes after it may be readable only where that is.
    pub fn record_detour(&self, registry: &str, repository: &Repository, host: &str, to: &str) {
        let (registry, repository) = (registry.into(), repository.clone());
        let (host, to, seen) = (host.into(), to.into(), micros(SystemTime::now()));
        self.queue.send_retained(Change::Detour { registry, repository, host, to, seen });
    }

    /// All records of a tag: of every class of `Accept` and every right.
    ///
    /// # Errors
    /// As [`Catalog::links`].
    pub async fn tags(&self, registry: &str, repository: &Repository, tag: &Tag) -> Result<Vec<TagEntry>, Error> {
        let (registry, repository, tag) = (Arc::from(registry), repository.clone(), tag.clone());
        self.ask("look up a tag", move |on| query::tags(on, &registry, &repository, &tag)).await
    }

    /// The tags of a repository that were checked last, at most so many, each with a class of `Accept` that it was asked
    /// for with.
    ///
    /// # Errors
    /// As [`Catalog::links`].
    pub async fn latest_tags(
        &self,
        registry: &str,
        repository: &Repository,
        most: u32,
    ) -> Result<Vec<(Tag, Accept)>, Error> {
        let (registry, repository) = (registry.to_owned(), repository.clone());
        self.ask("look up tags", move |on| query::latest_tags(on, &registry, &repository, most)).await
    }

    /// Records the digest of a tag, also in its history.
    pub fn record_tag(&self, mut entry: TagEntry) {
        entry.checked = entry.checked.min(SystemTime::now());
        self.offer(Change::Tag(entry));
    }

    /// Removes a tag, for all answers or for one class of `Accept` and one right. Its history stays. The removal of all is never
    /// dropped.
    pub fn forget_tag(&self, registry: &str, repository: &Repository, tag: &Tag, only: Option<(Accept, Learned)>) {
        let (registry, repository, tag) = (registry.into(), repository.clone(), tag.clone());
        let change = Change::ForgetTag { registry, repository, tag, only };
        if only.is_some() {
            self.offer(change);
        } else {
            self.queue.send_retained(change);
        }
    }

    /// Removes the link of a content that a place no longer has; of a manifest every tag there that means it, too. It is
    /// never dropped.
    pub fn forget_content(&self, registry: &str, repository: &Repository, digest: &Digest, content: Content) {
        let (registry, repository, digest) = (registry.into(), repository.clone(), *digest);
        self.queue.send_retained(Change::ForgetContent { registry, repository, digest, content });
    }

    /// Every digest that a tag has had, with its first and its last time, the latest first.
    ///
    /// # Errors
    /// As [`Catalog::links`].
    pub async fn tag_history(
        &self,
        registry: &str,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Vec<(Digest, SystemTime, SystemTime)>, Error> {
        let (registry, repository, tag) = (registry.to_owned(), repository.clone(), tag.clone());
        let rows = self.ask("look up a tag", move |on| query::history(on, &registry, &repository, &tag)).await?;
        Ok(rows.into_iter().map(|(digest, first, last)| (digest, time(first), time(last))).collect())
    }

    /// A registry's last answer to `GET /v2/`.
    ///
    /// # Errors
    /// As [`Catalog::links`].
    pub async fn ping(&self, registry: &str) -> Result<Option<Ping>, Error> {
        let registry = Arc::from(registry);
        self.ask("look up a ping", move |on| query::ping(on, &registry)).await
    }

    /// Replaces a registry's last answer to `GET /v2/`.
    pub fn record_ping(&self, ping: Ping) {
        self.offer(Change::Ping(ping));
    }

    /// Pins a digest: it is never evicted, and is pinned again when it comes back after it was dropped or removed.
    /// Returns whether it is stored now.
    ///
    /// # Errors
    /// As [`Catalog::links`]: nothing is pinned then.
    pub async fn pin(&self, digest: &Digest) -> Result<bool, Error> {
        self.set_pin(*digest, true).await
    }

    /// Unpins a digest. Returns whether it is stored now.
    ///
    /// # Errors
    /// As [`Catalog::links`]: nothing is changed then.
    pub async fn unpin(&self, digest: &Digest) -> Result<bool, Error> {
        self.set_pin(*digest, false).await
    }

    /// Whether the digest is pinned, stored or not.
    ///
    /// # Errors
    /// As [`Catalog::links`].
    pub async fn is_pinned(&self, digest: &Digest) -> Result<bool, Error> {
        let digest = *digest;
        self.ask("look up a pin", move |on| query::is_pinned(on, &digest)).await
    }

    async fn set_pin(&self, digest: Digest, pinned: bool) -> Result<bool, Error> {
        self.send(WriterCommand::Change(Change::Pin { digest, pinned }))?;
        let is_there = self.ask("look up a blob", move |on| query::is_there(on, &digest)).await?;
        self.flush().await; // a pin is a promise
        Ok(is_there)
    }

    /// Records that a blob was used just now. Takes a short lock; the use is written some seconds later.
    pub fn used(&self, digest: &Digest) {
        let stamp = self.stamp();
        lock(&self.shared.uses).insert(*digest, stamp);
    }

    /// Waits until all earlier changes and uses are committed, or the catalog failed to commit them.
    pub async fn flush(&self) {
        loop {
            let (done, wait) = oneshot::channel();
            // The waiting task may be gone.
            let command = WriterCommand::Flush(Box::new(move || _ = done.send(())));
            match self.send(command) {
                Ok(()) => return drop(wait.await),
                Err(Error::Busy) => tokio::task::yield_now().await,
                Err(_) => return,
            }
        }
    }

    /// As [`Catalog::flush`], for a thread that may block.
    pub(crate) fn flush_now(&self) {
        let (done, wait) = mpsc::channel();
        if self.queue.send_waiting(WriterCommand::Flush(Box::new(move || _ = done.send(())))).is_ok() {
            let _ = wait.recv(); // an error means that the thread has ended
        }
    }

    /// Opens a survey of everything that is committed.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn survey(&self) -> Result<Survey, Error> {
        self.flush_now();
        Survey::open(&self.folder)
    }

    /// A registry and a repository that the digest was last proven in, for the log. Waits for the disk.
    pub(crate) fn place(&self, digest: &Digest) -> Option<(String, String)> {
        self.reader().place(digest).ok().flatten()
    }

    /// Sends a change to the blobs. It is never dropped, so this may block.
    pub(crate) fn submit(&self, change: Change) {
        let _ = self.queue.send_waiting(WriterCommand::Change(change)); // after a close, the next start's rebuild finds it
    }

    /// Sends a change, to test whether the catalog can be written again.
    pub(crate) fn probe(&self) {
        self.offer(Change::expire());
    }

    /// The current time in microseconds since 1970, later than any handed out before.
    pub(crate) fn stamp(&self) -> i64 {
        self.shared.stamp()
    }

    /// Opens another, read-only connection.
    pub(crate) fn reader(&self) -> CatalogReader {
        CatalogReader::new(self.folder.clone(), Arc::clone(&self.shared.generation), Arc::clone(&self.queue))
    }

    /// Records that folder and catalog may have diverged.
    pub(crate) fn diverged(&self) {
        self.shared.divergences.fetch_add(1, Ordering::AcqRel);
    }

    /// How often they may have diverged.
    pub(crate) fn divergences(&self) -> u64 {
        self.shared.divergences.load(Ordering::Acquire)
    }

    /// Records that a rebuild has reconciled this many divergences.
    pub(crate) fn reconciled(&self, divergences: u64) {
        self.shared.reconciled.fetch_max(divergences, Ordering::AcqRel);
    }

    /// Whether folder and catalog may differ.
    pub(crate) fn may_differ(&self) -> bool {
        self.divergences() > self.shared.reconciled.load(Ordering::Acquire)
    }

    /// Commits everything and ends the thread. Later commands fail.
    pub(crate) fn close(&self) {
        let Some(thread) = lock(&self.thread).take() else { return };
        let _ = self.queue.send_waiting(WriterCommand::Stop);
        if thread.join().is_err() {
            self.diverged();
        }
    }

    pub(crate) fn offer(&self, change: Change) {
        if self.send(WriterCommand::Change(change)).is_err_and(|error| matches!(error, Error::Busy)) {
            tracing::debug!("the queue of the catalog is full: dropped a change"); // it will be learned again
        }
    }

    fn send(&self, command: WriterCommand) -> Result<(), Error> {
        self.queue.send(command)
    }

    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        doing: &'static str,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        if self.open.hangs() || self.shared.health.is_hanging() {
            return Err(Error::Busy);
        }
        let (reply, answer) = oneshot::channel();
        let open = self.open.ask();
        self.send(WriterCommand::Query(Box::new(move |on| {
            let found = question(on);
            drop(open);
            let damaged = found.as_ref().is_err_and(is_damage);
            let _ = reply.send(found); // the asking task may be gone
            damaged
        })))?;
        let answered = tokio::select! {
            biased;
            answered = answer => answered,
            () = self.shared.health.hang() => return Err(Error::Busy),
            () = self.open.hang() => return Err(Error::Busy),
        };
        answered.map_err(|_| Error::Closed)?.map_err(|source| Error::Catalog { doing, source })
    }

    /// Looks whether the thread answers; where it does not, nobody waits for it. Called now and then by a thread, since a
    /// timer of a network task would go by the clock of a test.
    pub(crate) fn attend(&self) {
        if self.open.attend(self.shared.health.patience()) {
            let path = self.folder.join(schema::FILE);
            tracing::warn!(path = %path.display(), "the catalog does not answer; registries are asked instead");
        }
    }
}

impl Drop for Catalog {
    fn drop(&mut self) {
        self.close();
    }
}
