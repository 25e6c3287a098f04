//! The driver of a fill starts lanes until nothing is missing.
//!
//! A cut, a stall or an expired address is not an error here as long as bytes keep coming: the rest is
//! asked for again. Only a source that gains nothing several times in a row is given up for the next.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::debug;

use super::alone::Alone;
use super::failure::{Last, is_worth_a_line, may_do_better, plea};
use super::lane::{Lane, LaneEnd, is_contradiction};
use super::shape::{Shape, Shapes};
use crate::cache::fill::FillConfig;
use crate::cache::fill::backoff::Retries;
use crate::cache::fill::checkpoint::{Checkpoint, KEEP_FROM};
use crate::cache::fill::fill::Fill;
use crate::cache::fill::plan::claims::{LaneId, Role};
use crate::cache::fill::plan::parallelism::{Parallelism, TICK};
use crate::cache::{Fault, Retry, WhenFull};
use crate::telemetry::Metrics;

/// How many lanes may fetch for readers far ahead at a time.
const SCOUTS: usize = 8;
/// A lane of several takes about so many seconds' bytes at once, within these bounds.
const CHUNK_SECONDS: u64 = 2;
const CHUNK_LEAST: u64 = 4 << 20;
const CHUNK_MOST: u64 = 64 << 20;
/// No claim is cut to less than this for another lane.
const CUT_LEAST: u64 = 1 << 20;
/// So many tries in vain, and a fill that nobody waits for is left.
const ALONE_TRIES: u32 = 2;
/// So many readers' lanes in vain, and ranges are of no use here.
const SCOUT_TRIES: u32 = 4;
/// Every source has failed and said nothing that can be passed on.
#[derive(Debug, thiserror::Error)]
#[error("no source is left")]
struct NoSource;

/// Why the lanes stopped before all was there.
pub(crate) enum Halt {
    Parked,
    Detached(Fault),
    Broken(Fault),
    /// As that, and what has landed cannot be trusted.
    Spoilt(Fault),
}

pub(crate) struct Driver<'a> {
    fill: &'a Arc<Fill>,
    config: FillConfig,
    metrics: &'a Metrics,
    lanes: JoinSet<(Lane, LaneEnd)>,
    next: u64,
    parallelism: Parallelism,
    retries: Retries,
    /// As `retries`, for the lanes of readers far ahead.
    scouting: Retries,
    shapes: Shapes,
    alone: Alone,
    way: usize,
    last: Last,
    checkpoint: Checkpoint,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(fill: &'a Arc<Fill>, config: FillConfig, metrics: &'a Metrics) -> Self {
        Self {
            fill,
            config,
            metrics,
            lanes: JoinSet::new(),
            next: 0,
            parallelism: Parallelism::new(config.lanes.into()),
            retries: Retries::default(),
            scouting: Retries::default(),
            shapes: Shapes::default(),
            alone: Alone::default(),
            way: 0,
            last: Last::new(Fault::new(Retry::Again, NoSource)),
            checkpoint: Checkpoint::of(fill),
        }
    }

    /// Fetches until nothing is missing. Whatever it answers, no lane is left.
    pub(crate) async fn gather(&mut self) -> Result<(), Halt> {
        let gathered = self.run().await;
        self.fill.stop();
        while self.lanes.join_next().await.is_some() {}
        self.checkpoint.settle().await;
        gathered
    }

    async fn run(&mut self) -> Result<(), Halt> {
        let (mut tick, mut seen) = (Instant::now() + TICK, self.fill.progress());
        loop {
            if self.fill.is_deserted() && self.is_to_be_parked() && self.fill.park() {
                return Err(Halt::Parked);
            }
            if self.is_futile() && self.fill.park() {
                // That a registry is away is told once, and not by each of its fills.
                if !self.is_away() {
                    self.last.tell(self.fill, "gave up a fill that no client waits for: its upstream delivers nothing");
                }
                return Err(Halt::Parked);
            }
            let is_watching = self.dispatch()?;
            if self.lanes.is_empty() && !self.fill.is_missing() {
                return Ok(());
            }
            let ticks = is_watching || self.is_parallel();
            let wakes = [ticks.then_some(tick), self.retries.until(), self.scouting.until(), self.alone.until()];
            let wake = wakes.into_iter().flatten().min();
            tokio::select! {
                Some(ended) = self.lanes.join_next(), if !self.lanes.is_empty() => match ended {
                    Ok((lane, end)) => self.ended(&lane, end)?,
                    Err(_) => return Err(Halt::Broken(self.last.fault.clone())), // the runtime is going down
                },
                () = self.fill.stirred() => {}
                () = sleep_until(wake) => {}
            }
            if ticks && tick <= Instant::now() {
                let progress = self.fill.progress();
                if self.is_parallel() {
                    self.parallelism.tick(progress - seen);
                }
                (tick, seen) = (Instant::now() + TICK, progress);
            }
            self.checkpoint.refresh(self.fill);
        }
    }

    fn is_to_be_parked(&self) -> bool {
        self.fill.is_leaving()
            || match (self.fill.progress(), self.fill.total()) {
                (landed, Some(total)) => landed < total && !self.config.finishes(landed, total),
                (landed, None) => landed > self.config.finish_rest.0, // it may have no end
            }
    }

    /// Whether nobody waits for it, and it gains nothing worth going on for.
    fn is_futile(&mut self) -> bool {
        self.alone.is_too_slow(self.fill.is_deserted(), self.fill.progress())
            || (self.fill.is_deserted() && self.retries.in_vain() >= ALONE_TRIES)
    }

    fn is_away(&self) -> bool {
        self.fill.sources().first().is_some_and(|source| source.caller.source.is_away())
    }

    fn is_parallel(&self) -> bool {
        self.fill.has_ranges() && self.fill.total().is_some_and(|total| total >= self.config.parallel_from.0)
    }

    /// Starts the lanes that should run and do not. Whether there is somebody to look after again soon.
    fn dispatch(&mut self) -> Result<bool, Halt> {
        if !self.retries.is_over() {
            return Ok(false);
        }
        let is_parallel = self.is_parallel() && !self.shapes.next(true).is_whole();
        let target = if is_parallel { self.parallelism.lanes() } else { 1 };
        let mut workers = self.fill.lanes(Role::Worker);
        while workers < target {
            let alone = target == 1;
            let chunk = if alone { u64::MAX } else { self.chunk() };
            let id = self.id();
            let least = if workers == 0 { u64::MAX } else { CUT_LEAST };
            let Some(claim) = self.fill.claim_work(id, chunk, least) else { break };
            let bounded = !alone || self.fill.is_followed_by_much(claim.to);
            let shape = if workers == 0 { self.shapes.next(bounded) } else { Shape::Part };
            if workers == 0 && self.retries.is_tried() && claim.from > 0 {
                self.metrics.fill_resumed();
            }
            let when_full = if workers == 0 { WhenFull::Wait } else { WhenFull::Spare };
            self.start(Lane { way: self.way + workers, ..self.lane(id, Role::Worker, claim, shape, when_full)? });
            workers += 1;
        }
        self.scout()
    }

    fn scout(&mut self) -> Result<bool, Halt> {
        while self.fill.has_ranges() && self.scouting.is_over() {
            let (demand, is_watching) = self.fill.next_demand();
            let Some(demand) = demand else { return Ok(is_watching) };
            if self.fill.lanes(Role::Scout) >= SCOUTS {
                return Ok(false); // a lane's end is the next occasion
            }
            let id = self.id();
            let Some(claim) = self.fill.claim_demand(id, demand) else { return Ok(true) };
            let lane = self.lane(id, Role::Scout, claim, Shape::Part, WhenFull::Wait)?;
            self.start(Lane { way: self.way + usize::try_from(id.0).unwrap_or(0), ..lane });
        }
        Ok(false)
    }

    fn id(&mut self) -> LaneId {
        self.next += 1;
        LaneId(self.next)
    }

    fn lane(
        &self,
        id: LaneId,
        role: Role,
        claim: crate::wire::Span,
        shape: Shape,
        when_full: WhenFull,
    ) -> Result<Lane, Halt> {
        match self.fill.sources().first() {
            Some(source) => Ok(Lane {
                id,
                role,
                source,
                claim,
                shape,
                way: 0,
                when_full,
                endpoint: None,
                brought: 0,
                is_doubtful: false,
                is_coded: false,
            }),
            None => {
                self.fill.release(id);
                Err(Halt::Broken(self.last.fault.clone()))
            }
        }
    }

    fn start(&mut self, lane: Lane) {
        // What one source's opening proves is its own: it takes the first way.
        let is_proven = lane.source.has_answered();
        let lane = Lane { way: if is_proven { lane.way } else { 0 }, ..lane };
        self.lanes.spawn(lane.run(self.fill.clone()));
    }

    fn chunk(&self) -> u64 {
        self.parallelism.lane_rate().saturating_mul(CHUNK_SECONDS).clamp(CHUNK_LEAST, CHUNK_MOST)
    }

    fn ended(&mut self, lane: &Lane, end: LaneEnd) -> Result<(), Halt> {
        self.fill.release(lane.id); // here, so that the next lane is started only after this one was judged
        if let (LaneEnd::Failed(_), Some(endpoint)) = (&end, &lane.endpoint) {
            self.fill.endpoints().failed(endpoint);
        }
        if lane.is_coded {
            self.shapes.has_no_parts();
        }
        match (end, lane.role) {
            (LaneEnd::Done, Role::Scout) => self.scouting.finished(lane.brought),
            (LaneEnd::Done, Role::Worker) => {
                self.retries.finished(lane.brought);
                self.shapes.gained();
            }
            (LaneEnd::Answers, _) => self.shapes.answered(),
            (LaneEnd::NoRanges | LaneEnd::Left, _) => {}
            (LaneEnd::Unstorable(fault), _) => return Err(Halt::Detached(fault)),
            (LaneEnd::Failed(fault) | LaneEnd::Short(fault), Role::Scout) => {
                debug!(digest = %self.fill.digest(), %fault, "could not fetch a range far ahead");
                self.scouting.broke_off(lane.brought, plea(&fault, self.fill));
                if fault.retry == Retry::Never || self.scouting.in_vain() >= SCOUT_TRIES {
                    self.fill.doubt_ranges(); // its readers wait for the others then
                }
            }
            (LaneEnd::Short(fault), Role::Worker) => {
                self.failed(lane, &fault);
                if self.retries.in_vain() > 0 {
                    self.give_up_or_wait(lane, fault)?;
                }
            }
            (LaneEnd::Failed(fault), Role::Worker) => {
                let others = self.fill.lanes(Role::Worker);
                if others > 0 {
                    debug!(digest = %self.fill.digest(), %fault, others, "one lane of several failed");
                    self.parallelism.hold(others);
                    if fault.unfit {
                        self.fill.doubt_ranges();
                    }
                } else {
                    self.failed(lane, &fault);
                    self.give_up_or_wait(lane, fault)?;
                }
            }
        }
        Ok(())
    }

    /// The only lane of the content failed: what that says of the next one.
    fn failed(&mut self, lane: &Lane, fault: &Fault) {
        self.retries.broke_off(lane.brought, plea(fault, self.fill));
        self.shapes.ended(lane.shape, lane.claim.from, lane.brought, fault);
        if self.shapes.next(true).is_whole() {
            self.fill.doubt_ranges();
        }
    }

    /// A source that will not do better, or was tried often enough, makes room for the next one; if all were, it is over.
    fn give_up_or_wait(&mut self, lane: &Lane, fault: Fault) -> Result<(), Halt> {
        self.way += 1;
        self.last.note(lane, fault);
        let (fault, progress) = (&self.last.fault, self.fill.progress());
        if may_do_better(lane, fault, &self.retries, self.fill) {
            self.last.tell_of_another_try(self.fill);
            return Ok(());
        }
        self.fill.sources().drop_one(&lane.source, fault);
        // Whose answer may have been a page reads along by it: another's bytes are not for its caller.
        let is_over = lane.is_doubtful || self.retries.is_over_for_all() || self.fill.sources().first().is_none();
        self.retries.another();
        if !is_over {
            return Ok(());
        }
        if is_worth_a_line(lane, fault, self.fill) {
            self.last.tell(self.fill, "gave up a fill: its upstream does not deliver the blob");
        }
        let is_page = lane.is_doubtful && (fault.retry == Retry::Never || progress < KEEP_FROM);
        let halt = if is_page || is_contradiction(fault) { Halt::Spoilt } else { Halt::Broken };
        Err(halt(fault.clone()))
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
