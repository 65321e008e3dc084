//! The watchdog: names calls that hold their threads for too long.
//!
//! It has an arbiter of its own, so that nothing it watches can hold it up. Twenty times a second it looks at what
//! each worker, async worker and I/O arbiter runs ([`beat`]); what it makes of that is plain code ([`rounds`]). A
//! blocking call that runs beyond `stuck_after` is named in the log and in the statistics, and the supervisor fills
//! its worker's place; an async call that does not wait for 100 ms and an inline one that takes longer than 10 ms are
//! named likewise. It never stops a call: nobody can. On its rounds it also has old failures and panics of handlers
//! forgotten.
//!
//! Bound: one entry for each thread.

pub(crate) mod beat;
pub(crate) mod rounds;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::MissedTickBehavior;

use crate::call::{self, CallId};
use crate::pool::handover::Handover;
use crate::time::Instant;
use rounds::{Kind, News, Rounds};

/// How often it looks.
const TICK: Duration = Duration::from_millis(50);

/// What the watchdog has found, for the statistics and the supervisor.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    stuck: Mutex<Vec<StuckCall>>,
    /// How many ordinary workers, and how many priority workers, are held by calls beyond `stuck_after`.
    stuck_workers: [AtomicUsize; 2],
    /// How often a call was named, by what its thread is there for.
    slow: [AtomicU64; 3],
}

/// A call that holds its thread for too long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StuckCall {
    /// `program.procedure`.
    pub procedure: String,
    /// The number of the connection that it came by.
    pub client_id: u64,
    /// Its serial.
    pub serial: u32,
    /// What it holds: `worker 3`, `async 0`, `io 1`.
    pub thread: String,
    /// For how long, to about 50 ms.
    pub age_ms: u64,
}

impl Findings {
    /// The calls that hold their threads now.
    pub(crate) fn stuck(&self) -> Vec<StuckCall> {
        self.lock().clone()
    }

    /// How many ordinary workers are held by calls beyond `stuck_after`.
    pub(crate) fn stuck_workers(&self) -> usize {
        self.stuck_workers[0].load(Relaxed)
    }

    /// The same of priority workers.
    pub(crate) fn stuck_priority(&self) -> usize {
        self.stuck_workers[1].load(Relaxed)
    }

    /// How often a blocking, an async and an inline call was named.
    pub(crate) fn slow(&self) -> [u64; 3] {
        [0, 1, 2].map(|kind| self.slow[kind].load(Relaxed))
    }

    /// An inline call took this long, and has come to its end before the watchdog saw it.
    pub(crate) fn slow_inline(&self, procedure: &str, call: CallId, took: Duration) {
        self.slow[Kind::Inline as usize].fetch_add(1, Relaxed);
        call::within(call, None, || {
            log::warn!(
                "the inline procedure {procedure} held its I/O arbiter for {took:.1?}; nobody else was served there"
            );
        });
    }

    /// One poll of an async call took this long, and has come to its end before the watchdog saw it.
    pub(crate) fn slow_poll(&self, procedure: &str, thread: &str, call: CallId, took: Duration) {
        self.slow[Kind::Async as usize].fetch_add(1, Relaxed);
        call::within(call, None, || log::warn!("{procedure} has left {thread} after {took:.1?}"));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<StuckCall>> {
        // It is replaced as a whole.
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches until it is dropped.
pub(crate) async fn watch(handover: Arc<Handover>, stuck_after: Duration) {
    let mut rounds = Rounds::new(stuck_after);
    let mut tick = tokio::time::interval(TICK);
    // After a stall of the whole machine all calls look old; one round later they do not.
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        let now = Instant::now();
        round(&handover, &mut rounds, now);
        handover.registry().watch.forget(now.to_std());
        handover.registry().poison.forget(now);
    }
}

fn round(handover: &Handover, rounds: &mut Rounds, now: Instant) {
    let news = rounds.look(now, handover.running());
    let findings = handover.findings();
    let name = |entry: u32| handover.registry().procedure(entry).name.clone();
    for one in &news {
        let (News::Stuck((kind, place), runs, age) | News::Over((kind, place), runs, age)) = *one;
        let (thread, procedure) = (thread(kind, place), name(runs.entry));
        let call = CallId { client_id: runs.client_id, serial: runs.serial };
        call::within(call, None, || match one {
            News::Stuck(..) => log::warn!("{procedure} has held {thread} for {age:.1?} and still does"),
            News::Over(..) => log::warn!("{procedure} has left {thread} after {age:.1?}"),
        });
        if matches!(one, News::Stuck(..)) {
            handover.beat((kind, place)).tell(&runs);
            findings.slow[kind as usize].fetch_add(1, Relaxed);
        }
    }
    if news.is_empty() && findings.lock().is_empty() {
        return;
    }
    let stuck = rounds.stuck(now);
    let workers = stuck.iter().filter(|((kind, _), ..)| *kind == Kind::Worker);
    let (ordinary, priority): (Vec<usize>, Vec<usize>) =
        workers.map(|((_, place), ..)| *place).partition(|place| handover.is_ordinary(*place));
    let workers = [ordinary.len(), priority.len()];
    *findings.lock() = stuck
        .into_iter()
        .map(|((kind, place), runs, age)| StuckCall {
            procedure: name(runs.entry),
            client_id: runs.client_id,
            serial: runs.serial,
            thread: thread(kind, place),
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        })
        .collect();
    let before = [0, 1].map(|kind| findings.stuck_workers[kind].swap(workers[kind], Relaxed));
    if before != workers {
        handover.look_after_workers();
    }
}

fn thread(kind: Kind, place: usize) -> String {
    match kind {
        Kind::Worker => crate::pool::place::name(place),
        Kind::Async => format!("async {place}"),
        Kind::Inline => format!("io {place}"),
    }
}
