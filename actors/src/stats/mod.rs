//! The numbers of a service: what it counts, and one snapshot of all of it.
//!
//! Each hub counts in a `block` of its own that only its thread writes; workers send what they measured with each
//! reply, in `buckets`, and how the call ended as an `outcome`. A [`Source`] adds it all up when somebody asks, from
//! whatever thread, without asking anybody else.

pub(crate) mod block;
pub(crate) mod buckets;
pub(crate) mod outcome;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use serde::Serialize;

use crate::events::Bulletin;
use crate::limits::TABLE;
use crate::listener::census::Census;
use crate::pool::handover::Handover;
use crate::supervisor::Controls;
use crate::supervisor::health::Health;
use crate::watchdog::StuckCall;
use block::{Counted, State};
use buckets::upper_bound;

/// Where statistics come from. Clones are the same source.
///
/// It is made before the service, so that programs can hold it, and has something to tell from when the service has
/// started until its handle is dropped. It does not keep anything of the service alive: programs are part of it.
#[derive(Clone, Debug, Default)]
pub struct Source(Arc<OnceLock<Weak<Parts>>>);

/// What is counted, by whom.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) handover: Arc<Handover>,
    pub(crate) census: Arc<Census>,
    pub(crate) controls: Arc<Controls>,
}

/// The numbers of a service.
///
/// The numbers of one procedure are of one moment: what was accepted is what was answered and what is in progress.
/// Counts start with the service.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Clients by what they do.
    pub clients: Clients,
    /// The threads that run calls.
    pub workers: Workers,
    /// Calls that wait for a worker.
    pub pending: Pending,
    /// Whether all is in order.
    pub health: Health,
    /// Calls that hold their threads for too long: blocking ones beyond `stuck_after`, async ones that do not wait for
    /// 100 ms, inline ones beyond 10 ms.
    pub stuck: Vec<StuckCall>,
    /// How often such calls were seen.
    pub slow: Slow,
    /// Each procedure that was called.
    pub procedures: Vec<Procedure>,
    /// Each event that somebody subscribed to.
    pub events: Vec<Event>,
    /// Calls that were answered without being accepted, by the code of their error.
    pub refused: BTreeMap<&'static str, u64>,
    /// How often each limit held, answered or closed something; those that did nothing are left out.
    pub limits: BTreeMap<&'static str, u64>,
    /// Results that came after their call was answered (cancelled, or its deadline passed), and were thrown away.
    pub late_results: u64,
    /// Packets that mean nothing to a service, and were ignored.
    pub ignored_packets: u64,
}

/// Clients by what they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Clients {
    /// All that are connected.
    pub connected: u64,
    /// Those without a call in progress.
    pub idle: u64,
    /// Those with calls in progress.
    pub busy: u64,
    /// Those that are at a limit of their own, so that nothing of them is read.
    pub held: u64,
    /// Those whose connection is ending: they get what they were promised.
    pub closing: u64,
    /// Those that have left while procedures that run to their end do so.
    pub gone: u64,
    /// Those that were turned away because `max_clients` were connected.
    pub refused: u64,
}

/// The threads that run calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Workers {
    /// `min_workers`.
    pub minimum: u64,
    /// `max_workers`.
    pub maximum: u64,
    /// How many there are, those with priority not among them.
    pub current: u64,
    /// How many of them have nothing to do.
    pub free: u64,
    /// Those that take priority calls only.
    pub priority: u64,
    /// Threads for async procedures.
    pub asynchronous: u64,
    /// Those of them whose call runs beyond `stuck_after`: given up until it returns, their places filled.
    pub abandoned: u64,
    /// How often a handler or a worker was started anew after it failed.
    pub restarts: u64,
}

/// How often calls held their threads for too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Slow {
    /// Blocking calls beyond `stuck_after`.
    pub blocking: u64,
    /// Async calls that did not wait for 100 ms.
    pub asynchronous: u64,
    /// Inline calls beyond 10 ms.
    pub inline: u64,
}

/// Calls that wait for a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Pending {
    /// How many.
    pub calls: u64,
    /// The bytes of their packets.
    pub bytes: u64,
}

/// One procedure.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Procedure {
    /// `program.procedure`.
    pub name: String,
    /// The version of the program.
    pub version: u32,
    /// Calls that were accepted.
    pub accepted: u64,
    /// Calls that are not answered yet.
    pub in_progress: u64,
    /// Calls that were answered: `ok`, the code of an error, or `own` for codes that handlers chose.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// From the receipt of a call until its handler began.
    pub queued: Times,
    /// From then until the result was there.
    pub ran: Times,
}

/// One event of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// `program.event`.
    pub name: String,
    /// The version of the program.
    pub version: u32,
    /// Subscriptions that are open.
    pub subscriptions: u64,
    /// How often it was published while anybody had subscribed to it.
    pub published: u64,
    /// How often it went into the output of a client.
    pub delivered: u64,
    /// How often it was dropped, of one subscription each: since its client does not read, or on its way there. What
    /// still waits is neither delivered nor lost.
    pub lost: u64,
}

/// A distribution of times.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Times {
    /// How many were measured.
    pub count: u64,
    /// Half of them, nine of ten, and so on, were at most this long, in nanoseconds: the upper bound of a bucket, at
    /// most a quarter too long.
    pub p50_ns: u64,
    /// See `p50_ns`.
    pub p90_ns: u64,
    /// See `p50_ns`.
    pub p99_ns: u64,
    /// See `p50_ns`; the longest.
    pub max_ns: u64,
    /// Each bucket that has any: its upper bound in nanoseconds, and how many.
    pub buckets: Vec<(u64, u64)>,
}

impl Source {
    /// The numbers now; `None` before the service has started, and when its handle is gone.
    pub fn read(&self) -> Option<Stats> {
        self.0.get().and_then(Weak::upgrade).map(|parts| parts.read())
    }

    pub(crate) fn set(&self, parts: &Arc<Parts>) {
        // A source belongs to one service.
        let _ = self.0.set(Arc::downgrade(parts));
    }
}

impl Parts {
    pub(crate) fn read(&self) -> Stats {
        let hubs = self.handover.hubs();
        let blocks = || (0..hubs.len()).map(|hub| hubs.block(hub));
        let mut procedures = Vec::new();
        for (index, entry) in self.handover.registry().procedures.iter().enumerate() {
            let mut counted: Option<Counted> = None;
            // Answered calls first: each was accepted before.
            let by_workers = (0..hubs.len()).map(|hub| hubs.by_workers(hub).read(index));
            for more in by_workers.chain(blocks().map(|block| block.read(index))).flatten() {
                counted.get_or_insert_with(Counted::none).add(&more);
            }
            if let Some(counted) = counted {
                procedures.push(Procedure::new(entry.name.clone(), entry.version, &counted));
            }
        }
        let sum = |read: &dyn Fn(&block::Block) -> u64| blocks().map(|block| read(block)).sum::<u64>();
        let state = |state| sum(&|block| block.read_clients(state));
        let clients = Clients {
            connected: self.census.clients(),
            idle: state(State::Idle),
            busy: state(State::Busy),
            held: state(State::Held),
            closing: state(State::Closing),
            gone: state(State::Gone),
            refused: self.census.refused(),
        };
        let mut limits: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (row, limit) in TABLE.iter().enumerate() {
            limits.insert(limit.key, sum(&|block| block.read_limit(row)));
        }
        limits.insert("max_clients", clients.refused);
        self.handover.count_limits(&mut limits);
        limits.insert("poison_after", self.handover.registry().poison.refused());
        let bulletin = hubs.bulletin();
        if let Some(bulletin) = bulletin {
            bulletin.count_limits(&mut limits);
        }
        limits.retain(|_, count| *count > 0);
        let findings = self.handover.findings();
        let [blocking, asynchronous, inline] = findings.slow();
        let refused = (0..outcome::VERDICTS)
            .map(|verdict| (outcome::name(verdict), sum(&|block| block.read_refused(verdict))))
            .filter(|(_, count)| *count > 0)
            .collect();
        Stats {
            clients,
            workers: Workers {
                abandoned: (findings.stuck_workers() + findings.stuck_priority()) as u64,
                ..self.controls.count(self.handover.idle_workers())
            },
            stuck: findings.stuck(),
            slow: Slow { blocking, asynchronous, inline },
            health: self.controls.watch().health(),
            pending: self.handover.count_pending(),
            procedures,
            events: bulletin.map(Bulletin::count).unwrap_or_default(),
            refused,
            limits,
            late_results: sum(&block::Block::read_late),
            ignored_packets: sum(&block::Block::read_ignored),
        }
    }
}

impl Procedure {
    fn new(name: String, version: u32, counted: &Counted) -> Self {
        let outcomes = counted.outcomes.iter().enumerate().filter(|(_, count)| **count > 0);
        Self {
            name,
            version,
            accepted: counted.accepted,
            in_progress: counted.accepted - counted.answered(),
            outcomes: outcomes.map(|(verdict, count)| (outcome::name(verdict), *count)).collect(),
            queued: Times::new(&counted.queued),
            ran: Times::new(&counted.ran),
        }
    }
}

impl Times {
    fn new(counts: &[u64]) -> Self {
        let buckets: Vec<(u64, u64)> = counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(index, &count)| (upper_bound(index), count))
            .collect();
        let count: u64 = buckets.iter().map(|(_, count)| count).sum();
        let at = |percent: u64| {
            let rank = (count * percent).div_ceil(100);
            let mut seen = 0;
            let reaches = |&&(_, count): &&(u64, u64)| {
                seen += count;
                seen >= rank
            };
            buckets.iter().find(reaches).map_or(0, |(bound, _)| *bound)
        };
        Self { count, p50_ns: at(50), p90_ns: at(90), p99_ns: at(99), max_ns: at(100), buckets }
    }

    /// The upper bound of the half of them, as a time.
    pub fn median(&self) -> Duration {
        Duration::from_nanos(self.p50_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::buckets::{BUCKETS, bucket};

    #[test]
    fn percentiles_are_upper_bounds_of_buckets() {
        let mut counts = vec![0; BUCKETS];
        counts[bucket(1_000).index()] = 90;
        counts[bucket(100_000).index()] = 9;
        counts[bucket(10_000_000).index()] = 1;
        let times = Times::new(&counts);
        assert_eq!((times.count, times.p50_ns, times.p90_ns), (100, times.p50_ns, times.p50_ns));
        assert!((1_000..=1_250).contains(&times.p50_ns), "{times:?}");
        assert!((100_000..=125_000).contains(&times.p99_ns), "{times:?}");
        assert!((10_000_000..=12_500_000).contains(&times.max_ns), "{times:?}");
        assert_eq!(Times::new(&vec![0; BUCKETS]), Times::default());
    }
}
