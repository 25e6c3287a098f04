//! The pilot of a fill: starts lanes until nothing is missing.
//!
//! A cut, a stall or an expired address is not an error here as long as bytes keep coming: the rest is
//! asked for again. Only a source that gains nothing several times in a row is given up for the next.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::FillConfig;
use super::claims::{LaneId, Role};
use super::fill::Fill;
use super::lane::{Lane, Outcome};
use super::memory::Memory;
use super::patience::Patience;
use super::scale::{Scale, TICK};
use crate::cache::{Fault, Queue, Retry};
use crate::telemetry::Metrics;

/// How many lanes may fetch for readers far ahead at a time.
const SCOUTS: usize = 8;
/// A lane of several takes about so many seconds' bytes at once, within these bounds.
const CHUNK_SECONDS: u64 = 2;
const CHUNK_LEAST: u64 = 4 << 20;
const CHUNK_MOST: u64 = 64 << 20;
/// No claim is cut to less than this for another lane.
const CUT_LEAST: u64 = 1 << 20;
/// Every source has failed and said nothing that can be passed on.
#[derive(Debug, thiserror::Error)]
#[error("no source is left")]
struct NoSource;

/// Why the lanes stopped before all was there.
pub(super) enum Halt {
    Parked,
    Adrift(Fault),
    Broken(Fault),
}

pub(super) struct Pilot<'a> {
    fill: &'a Arc<Fill>,
    config: FillConfig,
    metrics: &'a Metrics,
    lanes: JoinSet<(Lane, Outcome)>,
    next: u64,
    scale: Scale,
    patience: Patience,
    /// As `patience`, for the lanes of readers far ahead.
    scouting: Patience,
    way: usize,
    last: Fault,
    memory: Memory,
}

impl<'a> Pilot<'a> {
    pub(super) fn new(fill: &'a Arc<Fill>, config: FillConfig, metrics: &'a Metrics) -> Self {
        Self {
            fill,
            config,
            metrics,
            lanes: JoinSet::new(),
            next: 0,
            scale: Scale::new(config.lanes.into()),
            patience: Patience::default(),
            scouting: Patience::default(),
            way: 0,
            last: Fault::new(Retry::Again, NoSource),
            memory: Memory::of(fill),
        }
    }

    /// Fetches until nothing is missing. Whatever it answers, no lane is left.
    pub(super) async fn gather(&mut self) -> Result<(), Halt> {
        let gathered = self.fly().await;
        self.fill.stop();
        while self.lanes.join_next().await.is_some() {}
        self.memory.settle().await;
        gathered
    }

    async fn fly(&mut self) -> Result<(), Halt> {
        let (mut tick, mut seen) = (Instant::now() + TICK, self.fill.progress());
        loop {
            if self.fill.is_deserted() && self.is_to_be_parked() && self.fill.park() {
                return Err(Halt::Parked);
            }
            let is_watching = self.dispatch()?;
            if self.lanes.is_empty() && !self.fill.is_missing() {
                return Ok(());
            }
            let ticks = is_watching || self.is_parallel();
            let wake =
                [ticks.then_some(tick), self.patience.until(), self.scouting.until()].into_iter().flatten().min();
            tokio::select! {
                Some(ended) = self.lanes.join_next(), if !self.lanes.is_empty() => match ended {
                    Ok((lane, outcome)) => self.ended(&lane, outcome)?,
                    Err(_) => return Err(Halt::Broken(self.last.clone())), // the runtime is going down
                },
                () = self.fill.stirred() => {}
                () = sleep_until(wake) => {}
            }
            if ticks && tick <= Instant::now() {
                let progress = self.fill.progress();
                if self.is_parallel() {
                    self.scale.tick(progress - seen);
                }
                (tick, seen) = (Instant::now() + TICK, progress);
            }
            self.memory.refresh(self.fill);
        }
    }

    fn is_to_be_parked(&self) -> bool {
        self.fill.is_leaving()
            || self.fill.total().is_some_and(|total| {
                let landed = self.fill.progress();
                landed < total && !self.config.finishes(landed, total)
            })
    }

    fn is_parallel(&self) -> bool {
        self.fill.has_ranges() && self.fill.total().is_some_and(|total| total >= self.config.parallel_from.0)
    }

    /// Starts the lanes that should run and do not. Whether there is somebody to look after again soon.
    fn dispatch(&mut self) -> Result<bool, Halt> {
        if !self.patience.is_over() {
            return Ok(false);
        }
        let target = if self.is_parallel() { self.scale.lanes() } else { 1 };
        let mut workers = self.fill.lanes(Role::Worker);
        while workers < target {
            let alone = target == 1;
            let chunk = if alone { u64::MAX } else { self.chunk() };
            let id = self.id();
            let least = if workers == 0 { u64::MAX } else { CUT_LEAST };
            let Some(claim) = self.fill.claim_work(id, chunk, least) else { break };
            let bounded = !alone || self.fill.is_followed_by_much(claim.to);
            if workers == 0 && self.patience.is_tried() && claim.from > 0 {
                self.metrics.fill_resumed();
            }
            let queue = if workers == 0 { Queue::Wait } else { Queue::Spare };
            self.start(Lane { way: self.way + workers, ..self.lane(id, Role::Worker, claim, bounded, queue)? });
            workers += 1;
        }
        self.scout()
    }

    fn scout(&mut self) -> Result<bool, Halt> {
        while self.fill.has_ranges() && self.scouting.is_over() {
            let (wish, is_watching) = self.fill.wish();
            let Some(wish) = wish else { return Ok(is_watching) };
            if self.fill.lanes(Role::Scout) >= SCOUTS {
                return Ok(false); // a lane's end is the next occasion
            }
            let id = self.id();
            let Some(claim) = self.fill.claim_wish(id, wish) else { return Ok(true) };
            let lane = self.lane(id, Role::Scout, claim, true, Queue::Wait)?;
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
        bounded: bool,
        queue: Queue,
    ) -> Result<Lane, Halt> {
        match self.fill.leads().first() {
            Some(lead) => {
                Ok(Lane { id, role, lead, claim, bounded, way: 0, queue, endpoint: None, is_doubtful: false })
            }
            None => {
                self.fill.release(id);
                Err(Halt::Broken(self.last.clone()))
            }
        }
    }

    fn start(&mut self, lane: Lane) {
        // What one source's opening proves is its own: it takes the first way.
        let is_proven = lane.lead.has_answered();
        let lane = Lane { way: if is_proven { lane.way } else { 0 }, ..lane };
        self.lanes.spawn(lane.run(self.fill.clone()));
    }

    fn chunk(&self) -> u64 {
        self.scale.lane_rate().saturating_mul(CHUNK_SECONDS).clamp(CHUNK_LEAST, CHUNK_MOST)
    }

    fn ended(&mut self, lane: &Lane, outcome: Outcome) -> Result<(), Halt> {
        self.fill.release(lane.id); // here, so that the next lane is started only after this one was judged
        if let (Outcome::Failed(_), Some(endpoint)) = (&outcome, &lane.endpoint) {
            self.fill.endpoints().failed(endpoint);
        }
        let progress = self.fill.progress();
        match (outcome, lane.role) {
            (Outcome::Done, Role::Scout) => self.scouting.gained(),
            (Outcome::Done, Role::Worker) => self.patience.gained(),
            (Outcome::NoRanges, _) => {}
            (Outcome::Unstorable(fault), _) => return Err(Halt::Adrift(fault)),
            (Outcome::Failed(fault), Role::Scout) => {
                debug!(digest = %self.fill.digest(), %fault, "a range far ahead could not be had");
                self.scouting.failed(progress);
                if fault.retry == Retry::Never || self.scouting.in_vain() >= 4 {
                    self.fill.doubt_ranges(); // its readers wait for the others then
                }
            }
            (Outcome::Failed(fault), Role::Worker) => {
                let others = self.fill.lanes(Role::Worker);
                if others > 0 {
                    debug!(digest = %self.fill.digest(), %fault, others, "one lane of several failed");
                    self.scale.hold(others);
                } else {
                    self.give_up_or_wait(lane, fault, progress)?;
                }
            }
        }
        Ok(())
    }

    fn give_up_or_wait(&mut self, lane: &Lane, fault: Fault, progress: u64) -> Result<(), Halt> {
        self.patience.failed(progress);
        self.way += 1;
        if fault.retry == Retry::Never || self.patience.is_exhausted(progress) {
            self.fill.leads().drop_one(&lane.lead, &fault);
            // Its caller reads along, by what may have been a page: another's bytes are not for it.
            if lane.is_doubtful {
                return Err(Halt::Broken(fault));
            }
            self.patience.another();
        } else {
            warn!(digest = %self.fill.digest(), at = progress, %fault, "upstream broke off, asking for the rest");
        }
        self.last = fault;
        Ok(())
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
