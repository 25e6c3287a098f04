//! The state of one fill, shared by its driver, its lanes, its digest reader and its followers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Extents;
use super::endpoints::Endpoints;
use super::plan::claims::{GoOn, LaneId, Role};
use super::plan::demand::{Demand, ReaderId};
use super::plan::phase::{Gone, Phase};
use super::plan::plan::{LengthChanged, Plan};
use super::silence::Silence;
use super::sources::{FillSource, Sources, not_asked};
use super::staged_file::StagedFile;
use super::status::FillStatus;
use crate::cache::{Fault, Flow, Place};
use crate::host::TaskGroup;
use crate::oci::Digest;
use crate::store::{Partial, Staged};
use crate::wire::Span;

/// One content on its way into the store.
pub struct Fill {
    digest: Digest,
    place: Place,
    staged: StagedFile,
    plan: Mutex<Plan>,
    next_reader: AtomicU64,
    sources: Sources,
    endpoints: Mutex<Endpoints>,
    has_begun: AtomicBool,
    has_ranges: AtomicBool,
    is_leaving: AtomicBool,
    status: FillStatus,
    silence: Silence,
    /// Rung when the driver should look after something.
    bell: Notify,
    stop: CancellationToken,
    tasks: TaskGroup,
}

/// What its readers and its driver see.
impl Fill {
    /// Nothing has landed.
    pub(crate) fn new(staged: Staged, source: FillSource, endpoints: Endpoints, tasks: TaskGroup) -> Self {
        Self::begin(staged, Plan::new(Extents::default(), None), source, endpoints, tasks)
    }

    /// Goes on where an earlier one stopped.
    pub(crate) fn resumed(partial: Partial, source: FillSource, endpoints: Endpoints, tasks: TaskGroup) -> Self {
        let plan = Plan::new(Extents::of(&partial.extents), partial.total);
        Self::begin(partial.staged, plan, source, endpoints, tasks)
    }

    fn begin(staged: Staged, plan: Plan, source: FillSource, endpoints: Endpoints, tasks: TaskGroup) -> Self {
        let status = FillStatus::new(plan.total().filter(|_| plan.progress() > 0));
        Self {
            digest: *staged.digest(),
            place: source.caller.place.clone(),
            staged: StagedFile::new(staged),
            plan: Mutex::new(plan),
            next_reader: AtomicU64::new(1),
            sources: Sources::new(source),
            endpoints: Mutex::new(endpoints),
            has_begun: false.into(),
            has_ranges: true.into(),
            is_leaving: false.into(),
            status,
            silence: Silence::new(),
            bell: Notify::new(),
            stop: CancellationToken::new(),
            tasks,
        }
    }

    /// What is being filled.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Where the caller that started it asked for it, for the log.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// How many bytes have landed.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.plan().progress()
    }

    /// What can be waited for before the first byte.
    pub(crate) fn status(&self) -> &FillStatus {
        &self.status
    }

    /// How long nothing has come.
    pub(crate) fn silence(&self) -> &Silence {
        &self.silence
    }

    /// Somebody waits for the content; see [`Plan::enter`].
    pub(crate) fn enter(&self) -> bool {
        self.plan().enter()
    }

    /// See [`Plan::enter_with_another`].
    pub(crate) fn enter_with_another(&self) {
        self.plan().enter_with_another();
    }

    /// One who entered leaves.
    pub(crate) fn exit(&self) {
        if self.plan().exit() {
            self.bell.notify_one();
        }
    }

    /// Joins a reader of `span`.
    pub(crate) fn join_reader(&self, span: Span) -> ReaderId {
        let reader = ReaderId(self.next_reader.fetch_add(1, Ordering::Relaxed));
        self.plan().join_reader(reader, span);
        reader
    }

    /// What works for it in the background.
    pub(crate) fn tasks(&self) -> &TaskGroup {
        &self.tasks
    }

    pub(crate) fn staged(&self) -> &StagedFile {
        &self.staged
    }

    pub(crate) fn readable(&self, at: u64, hold: bool, reader: ReaderId, cx: &Context<'_>) -> Poll<Result<u64, Gone>> {
        let mut plan = self.plan();
        let readable = plan.readable(at, hold, reader, cx);
        let is_far = readable.is_pending() && reader != ReaderId::HASHER && plan.is_far(at);
        drop(plan);
        if is_far {
            self.bell.notify_one();
        }
        readable
    }

    pub(crate) fn leave(&self, at: u64, reader: ReaderId) {
        self.plan().leave(at, reader);
    }

    pub(crate) fn total(&self) -> Option<u64> {
        self.plan().total()
    }

    pub(crate) fn verified_now(&self) -> bool {
        matches!(self.plan().phase(), Phase::Verified(_))
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.plan().is_missing()
    }

    pub(crate) fn is_deserted(&self) -> bool {
        self.plan().is_deserted() || self.is_leaving()
    }

    /// What has landed, and the length.
    pub(crate) fn extents(&self) -> (Vec<(u64, u64)>, Option<u64>) {
        let plan = self.plan();
        (plan.landed().pairs(), plan.total())
    }

    /// Whether much is there already behind `at`, so that a stream would better end there.
    pub(crate) fn is_followed_by_much(&self, at: u64) -> bool {
        const MUCH: u64 = 1 << 20;
        self.plan().landed().end_from(at) - at > MUCH
    }

    /// The proxy stops: what has landed is to be kept for the next start.
    pub(crate) fn send_away(&self) {
        self.is_leaving.store(true, Ordering::Release);
        self.bell.notify_one();
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    pub(crate) async fn stirred(&self) {
        self.bell.notified().await;
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

/// What its lanes do to it.
impl Fill {
    /// A source is open and has said what it knows.
    pub(crate) fn opened(&self, flow: &Flow) -> Result<(), LengthChanged> {
        self.silence.broken();
        if flow.ranges == Some(false) {
            self.doubt_ranges();
        }
        let mut endpoints = self.endpoints();
        flow.endpoint.iter().for_each(|name| endpoints.opened(name));
        flow.validator.iter().for_each(|validator| endpoints.vouched(validator));
        drop(endpoints);
        match flow.total {
            Some(total) => self.learn_total(total)?,
            None => self.status.open(None),
        }
        Ok(())
    }

    /// The content has so many bytes.
    pub(crate) fn learn_total(&self, total: u64) -> Result<(), LengthChanged> {
        let woken = self.plan().learn_total(total)?;
        woken.into_iter().for_each(Waker::wake);
        self.status.open(Some(total));
        self.bell.notify_one();
        Ok(())
    }

    /// Who brings its bytes.
    pub(crate) fn endpoints(&self) -> MutexGuard<'_, Endpoints> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose sources it has.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Whether any source has delivered something: in the midst of a content, an upstream that fails is waited for.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Whether ranges can be asked for, as far as is known.
    pub(crate) fn has_ranges(&self) -> bool {
        self.has_ranges.load(Ordering::Relaxed)
    }

    /// They are of no use here.
    pub(crate) fn doubt_ranges(&self) {
        self.has_ranges.store(false, Ordering::Relaxed);
    }

    pub(crate) fn claim_work(&self, lane: LaneId, chunk: u64, least: u64) -> Option<Span> {
        self.plan().claim_work(lane, chunk, least)
    }

    pub(crate) fn next_demand(&self) -> (Option<Demand>, bool) {
        self.plan().next_demand(Instant::now())
    }

    pub(crate) fn claim_demand(&self, lane: LaneId, demand: Demand) -> Option<Span> {
        self.plan().claim_demand(lane, demand)
    }

    pub(crate) fn reserve(&self, lane: LaneId, wanted: u64) -> u64 {
        self.plan().reserve(lane, wanted)
    }

    pub(crate) fn go_on(&self, lane: LaneId, stream_to: Option<u64>, limit: u64) -> GoOn {
        self.plan().go_on(lane, stream_to, limit)
    }

    pub(crate) fn unclaimed_rest(&self, lane: LaneId) -> u64 {
        self.plan().rest(lane)
    }

    pub(crate) fn is_wanted(&self, lane: LaneId) -> bool {
        self.plan().is_wanted(lane)
    }

    pub(crate) fn measured(&self, lane: LaneId, rate: u64) {
        self.plan().measured(lane, rate, Instant::now());
    }

    pub(crate) fn lanes(&self, role: Role) -> usize {
        self.plan().lanes(role)
    }

    pub(crate) fn release(&self, lane: LaneId) {
        self.plan().release(lane);
    }

    pub(crate) fn land(&self, lane: LaneId, span: Span) {
        self.has_begun.store(true, Ordering::Release);
        self.silence.broken();
        let woken = self.plan().land(lane, span);
        woken.into_iter().for_each(Waker::wake);
    }
}

/// How it ends.
impl Fill {
    /// Stops for want of readers; `false` if one came meanwhile.
    pub(crate) fn park(&self) -> bool {
        let plan = self.plan();
        if !plan.is_deserted() && !self.is_leaving() {
            return false;
        }
        self.end(plan, Phase::Parked);
        true
    }

    /// All `total` bytes are there, and their digest matched.
    pub(crate) fn verify(&self, total: u64) {
        self.end(self.plan(), Phase::Verified(total));
    }

    /// The disk takes no more.
    pub(crate) fn detach(&self, fault: &Fault) {
        self.end(self.plan(), Phase::Detached(fault.clone()));
    }

    /// It failed for good.
    pub(crate) fn break_off(&self, fault: &Fault) {
        self.end(self.plan(), Phase::Broken(fault.clone()));
    }

    /// The one place where a fill's end is told: to its sources, to its waiters and to its readers. Under one lock, so
    /// that nobody sees one of them told and another not.
    fn end(&self, mut plan: MutexGuard<'_, Plan>, phase: Phase) {
        let Some(end) = phase.end() else { return };
        self.sources.fail(&end.clone().err().unwrap_or_else(not_asked)); // nobody waits for ever for one that was not asked
        self.status.end(end);
        let woken = plan.end(phase);
        drop(plan);
        woken.into_iter().for_each(Waker::wake);
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
