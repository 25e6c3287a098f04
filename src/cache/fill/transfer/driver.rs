//! The pilot of a fill: starts lanes until nothing is missing.
//!
//! A cut, a stall or an expired address is not an error here as long as bytes keep coming: the rest is
//! asked for again. Only a source that gains nothing several times in a row is given up for the next.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::alone::Alone;
use super::lane::{Lane, Outcome};
use crate::cache::fill::FillConfig;
use crate::cache::fill::backoff::Backoff;
use crate::cache::fill::checkpoint::Checkpoint;
use crate::cache::fill::fill::Fill;
use crate::cache::fill::plan::claims::{LaneId, Role};
use crate::cache::fill::plan::parallelism::{Parallelism, TICK};
use crate::cache::{Fault, Place, Retry, Said, WhenFull};
use crate::telemetry::{Metrics, chain};

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
    Adrift(Fault),
    Broken(Fault),
}

pub(crate) struct Driver<'a> {
    fill: &'a Arc<Fill>,
    config: FillConfig,
    metrics: &'a Metrics,
    lanes: JoinSet<(Lane, Outcome)>,
    next: u64,
    scale: Parallelism,
    patience: Backoff,
    /// As `patience`, for the lanes of readers far ahead.
    scouting: Backoff,
    alone: Alone,
    way: usize,
    last: Last,
    memory: Checkpoint,
}

/// The last failure, and whose it was.
struct Last {
    fault: Fault,
    place: Option<Place>,
    endpoint: Option<Arc<str>>,
    /// How many there were.
    tries: u32,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(fill: &'a Arc<Fill>, config: FillConfig, metrics: &'a Metrics) -> Self {
        Self {
            fill,
            config,
            metrics,
            lanes: JoinSet::new(),
            next: 0,
            scale: Parallelism::new(config.lanes.into()),
            patience: Backoff::default(),
            scouting: Backoff::default(),
            alone: Alone::default(),
            way: 0,
            last: Last { fault: Fault::new(Retry::Again, NoSource), place: None, endpoint: None, tries: 0 },
            memory: Checkpoint::of(fill),
        }
    }

    /// Fetches until nothing is missing. Whatever it answers, no lane is left.
    pub(crate) async fn gather(&mut self) -> Result<(), Halt> {
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
            if self.is_futile() && self.fill.park() {
                // That a registry is away is told once, and not by each of its fills.
                if !self.is_away() {
                    self.tell("nobody waits for this blob, and its upstream brings nothing: the fill is given up");
                }
                return Err(Halt::Parked);
            }
            let is_watching = self.dispatch()?;
            if self.lanes.is_empty() && !self.fill.is_missing() {
                return Ok(());
            }
            let ticks = is_watching || self.is_parallel();
            let wakes = [ticks.then_some(tick), self.patience.until(), self.scouting.until(), self.alone.until()];
            let wake = wakes.into_iter().flatten().min();
            tokio::select! {
                Some(ended) = self.lanes.join_next(), if !self.lanes.is_empty() => match ended {
                    Ok((lane, outcome)) => self.ended(&lane, outcome)?,
                    Err(_) => return Err(Halt::Broken(self.last.fault.clone())), // the runtime is going down
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
            || match (self.fill.progress(), self.fill.total()) {
                (landed, Some(total)) => landed < total && !self.config.finishes(landed, total),
                (landed, None) => landed > self.config.finish_rest.0, // it may have no end
            }
    }

    /// Whether nobody waits for it, and it gains nothing worth going on for.
    fn is_futile(&mut self) -> bool {
        self.alone.is_too_slow(self.fill.is_deserted(), self.fill.progress())
            || (self.fill.is_deserted() && self.patience.in_vain() >= ALONE_TRIES)
    }

    fn is_away(&self) -> bool {
        self.fill.leads().first().is_some_and(|lead| lead.caller.source.is_away())
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
            let when_full = if workers == 0 { WhenFull::Wait } else { WhenFull::Spare };
            self.start(Lane { way: self.way + workers, ..self.lane(id, Role::Worker, claim, bounded, when_full)? });
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
            let lane = self.lane(id, Role::Scout, claim, true, WhenFull::Wait)?;
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
        when_full: WhenFull,
    ) -> Result<Lane, Halt> {
        match self.fill.leads().first() {
            Some(lead) => Ok(Lane {
                id,
                role,
                lead,
                claim,
                bounded,
                way: 0,
                when_full,
                endpoint: None,
                brought: 0,
                is_doubtful: false,
            }),
            None => {
                self.fill.release(id);
                Err(Halt::Broken(self.last.fault.clone()))
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
        match (outcome, lane.role) {
            (Outcome::Done, Role::Scout) => self.scouting.finished(lane.brought),
            (Outcome::Done, Role::Worker) => self.patience.finished(lane.brought),
            (Outcome::NoRanges | Outcome::Left, _) => {}
            (Outcome::Unstorable(fault), _) => return Err(Halt::Adrift(fault)),
            (Outcome::Failed(fault) | Outcome::Short(fault), Role::Scout) => {
                debug!(digest = %self.fill.digest(), %fault, "a range far ahead could not be had");
                self.scouting.broke_off(lane.brought);
                if fault.retry == Retry::Never || self.scouting.in_vain() >= SCOUT_TRIES {
                    self.fill.doubt_ranges(); // its readers wait for the others then
                }
            }
            (Outcome::Short(fault), Role::Worker) => {
                self.patience.broke_off(lane.brought);
                if self.patience.in_vain() > 0 {
                    self.give_up_or_wait(lane, fault)?;
                }
            }
            (Outcome::Failed(fault), Role::Worker) => {
                let others = self.fill.lanes(Role::Worker);
                if others > 0 {
                    debug!(digest = %self.fill.digest(), %fault, others, "one lane of several failed");
                    self.scale.hold(others);
                } else {
                    if fault.retry == Retry::Again {
                        self.patience.broke_off(lane.brought);
                    }
                    self.give_up_or_wait(lane, fault)?;
                }
            }
        }
        Ok(())
    }

    /// A source that will not do better, or was tried often enough, makes room for the next one; if all were, it is over.
    fn give_up_or_wait(&mut self, lane: &Lane, fault: Fault) -> Result<(), Halt> {
        self.way += 1;
        self.last = Last {
            fault,
            tries: self.last.tries + 1,
            place: Some(lane.lead.caller.place.clone()),
            endpoint: lane.endpoint.clone(),
        };
        let (fault, progress) = (&self.last.fault, self.fill.progress());
        if fault.retry == Retry::Again && !self.patience.is_exhausted(progress) {
            info!(digest = %self.fill.digest(), at = progress, %fault, "upstream broke off, asking for the rest");
            return Ok(());
        }
        self.fill.leads().drop_one(&lane.lead, fault);
        // Whose answer may have been a page reads along by it: another's bytes are not for its caller.
        let is_over = lane.is_doubtful || self.patience.is_over_for_all() || self.fill.leads().first().is_none();
        self.patience.another();
        if !is_over {
            return Ok(());
        }
        // A refusal is an answer like others, unless bytes came before it, also one to a question in nobody's name, which
        // says nothing of the caller; and that a registry is away is told once.
        let source = &lane.lead.caller.source;
        let is_denial = fault.retry == Retry::Never && lane.lead.caller.is_lent();
        let is_told = match fault.said {
            Said::Nothing => progress == 0 && (source.is_away() || is_denial),
            Said::Refused => progress == 0,
            Said::Missing | Said::Challenged | Said::Denied | Said::Forbidden => true,
        };
        if !is_told {
            self.tell("the fill is given up: its upstream does not bring the blob");
        }
        Err(Halt::Broken(self.last.fault.clone()))
    }

    /// One line for whoever looks for the reason.
    fn tell(&self, words: &'static str) {
        let Last { fault, tries, place, endpoint } = &self.last;
        warn!(
            registry = place.as_ref().map(|place| &*place.registry),
            repository = place.as_ref().map(|place| place.repository.as_str()),
            digest = %self.fill.digest(),
            endpoint = endpoint.as_deref(),
            landed = self.fill.progress(),
            tries,
            fault = chain(fault),
            "{words}"
        );
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
