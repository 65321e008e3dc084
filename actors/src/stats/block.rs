//! What one hub counts, for anybody to read at any time.
//!
//! Only the hub's thread writes, so counting is a load and a store, without a lock and without a locked instruction.
//! What workers count of its calls is in a block of its own ([`SharedBlock`]).
//! The numbers of one procedure are read together: a version that is odd while they change tells a reader to look
//! again. Histograms of a procedure exist from its first call on. Nothing here grows with calls or clients.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::limits::{Key, TABLE};
use crate::stats::buckets::{BUCKETS, Bucket};
use crate::stats::outcome::{VERDICTS, Verdict};

/// The numbers of one hub.
#[derive(Debug)]
pub(crate) struct Block {
    procedures: Box<[OnceLock<Box<Procedure>>]>,
    /// Calls that were answered without being accepted, by verdict.
    refused: Counters<VERDICTS>,
    /// How often each limit was at its bound.
    limits: Box<[AtomicU64]>,
    /// Clients in each state.
    clients: Counters<STATES>,
    /// Packets that mean nothing to a service.
    ignored: AtomicU64,
    /// Results that came when their call was answered already.
    late: AtomicU64,
}

/// Numbers that several threads count, one at a time.
#[derive(Debug)]
pub(crate) struct SharedBlock {
    block: Block,
    writing: Mutex<()>,
}

/// The one who counts now.
#[derive(Debug)]
pub(crate) struct Counting<'a> {
    block: &'a Block,
    _turn: MutexGuard<'a, ()>,
}

impl SharedBlock {
    pub(crate) fn new(procedures: usize) -> Self {
        Self { block: Block::new(procedures), writing: Mutex::default() }
    }

    /// Locked for moments only, and never for who reads.
    pub(crate) fn begin(&self) -> Counting<'_> {
        // The lock guards nothing that a panic could leave half done.
        Counting { block: &self.block, _turn: self.writing.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    pub(crate) fn read(&self, entry: usize) -> Option<Counted> {
        self.block.read(entry)
    }
}

impl Counting<'_> {
    pub(crate) fn answered(&self, entry: u32, verdict: Verdict, queued: Bucket, ran: Option<Bucket>) {
        self.block.answered(entry, verdict, queued, ran);
    }
}

/// What a client is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Connected, without a call.
    Idle,
    /// It has calls in progress.
    Busy,
    /// It is at a limit of its own: nothing of it is read.
    Held,
    /// Nothing more is read; it gets what it was promised.
    Closing,
    /// It has left; procedures that run to their end do so.
    Gone,
}

const STATES: usize = 5;

type Counters<const N: usize> = [AtomicU64; N];

fn zeros<const N: usize>() -> Counters<N> {
    std::array::from_fn(|_| AtomicU64::new(0))
}

/// The numbers of one procedure.
#[derive(Debug)]
struct Procedure {
    /// Odd while the others change.
    version: AtomicU64,
    accepted: AtomicU64,
    outcomes: Counters<VERDICTS>,
    queued: Counters<BUCKETS>,
    ran: Counters<BUCKETS>,
}

/// The numbers of one procedure as they were at one moment. They can be added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) accepted: u64,
    pub(crate) outcomes: Vec<u64>,
    pub(crate) queued: Vec<u64>,
    pub(crate) ran: Vec<u64>,
}

impl Block {
    pub(crate) fn new(procedures: usize) -> Self {
        Self {
            procedures: std::iter::repeat_with(OnceLock::new).take(procedures).collect(),
            refused: zeros(),
            limits: TABLE.iter().map(|_| AtomicU64::new(0)).collect(),
            clients: zeros(),
            ignored: AtomicU64::new(0),
            late: AtomicU64::new(0),
        }
    }

    /// A call of this procedure was accepted.
    #[inline(always)]
    pub(crate) fn accepted(&self, entry: u32) {
        self.procedure(entry).edit(|it| add(&it.accepted, 1));
    }

    /// A call was answered, after this time in the queue and this time with its handler, if it got there.
    #[inline(always)]
    pub(crate) fn answered(&self, entry: u32, verdict: Verdict, queued: Bucket, ran: Option<Bucket>) {
        self.procedure(entry).edit(|it| {
            add(&it.outcomes[verdict.index()], 1);
            add(&it.queued[queued.index()], 1);
            if let Some(ran) = ran {
                add(&it.ran[ran.index()], 1);
            }
        });
    }

    /// A call that runs was answered before its result.
    pub(crate) fn answered_early(&self, entry: u32, verdict: Verdict) {
        self.procedure(entry).edit(|it| add(&it.outcomes[verdict.index()], 1));
    }

    /// The result of a call that was answered before has come and was thrown away.
    pub(crate) fn late(&self, entry: u32, queued: Bucket, ran: Option<Bucket>) {
        add(&self.late, 1);
        self.procedure(entry).edit(|it| {
            add(&it.queued[queued.index()], 1);
            if let Some(ran) = ran {
                add(&it.ran[ran.index()], 1);
            }
        });
    }

    /// A call was answered without being accepted.
    pub(crate) fn refused(&self, verdict: Verdict) {
        add(&self.refused[verdict.index()], 1);
    }

    /// A limit was at its bound.
    pub(crate) fn limit(&self, key: Key) {
        add(&self.limits[key as usize], 1);
    }

    /// A packet that means nothing was ignored.
    pub(crate) fn ignored(&self) {
        add(&self.ignored, 1);
    }

    /// A client has come (from none), has changed, or has left (to none).
    pub(crate) fn client(&self, from: Option<State>, to: Option<State>) {
        if let Some(from) = from {
            let count = &self.clients[from as usize];
            count.store(count.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
        }
        if let Some(to) = to {
            add(&self.clients[to as usize], 1);
        }
    }

    /// The numbers of a procedure; none before its first call.
    pub(crate) fn read(&self, entry: usize) -> Option<Counted> {
        self.procedures.get(entry)?.get().map(|procedure| procedure.read())
    }

    pub(crate) fn read_refused(&self, verdict: usize) -> u64 {
        self.refused[verdict].load(Ordering::Relaxed)
    }

    pub(crate) fn read_limit(&self, row: usize) -> u64 {
        self.limits[row].load(Ordering::Relaxed)
    }

    pub(crate) fn read_clients(&self, state: State) -> u64 {
        self.clients[state as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn read_ignored(&self) -> u64 {
        self.ignored.load(Ordering::Relaxed)
    }

    pub(crate) fn read_late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn procedure(&self, entry: u32) -> &Procedure {
        // Entries come from the registry, which this block was made for.
        self.procedures[entry as usize].get_or_init(|| Box::new(Procedure::new()))
    }
}

/// Adds to a counter that only this thread writes.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

impl Procedure {
    fn new() -> Self {
        let (version, accepted) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { version, accepted, outcomes: zeros(), queued: zeros(), ran: zeros() }
    }

    /// Changes numbers that belong together.
    fn edit(&self, change: impl FnOnce(&Self)) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        change(self);
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    fn read(&self) -> Counted {
        // A writer is done within nanoseconds, unless its thread was put to sleep just there: then it is waited for.
        let mut tries = 0;
        loop {
            let before = self.version.load(Ordering::Acquire);
            let counted = Counted {
                accepted: self.accepted.load(Ordering::Relaxed),
                outcomes: read(&self.outcomes),
                queued: read(&self.queued),
                ran: read(&self.ran),
            };
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before {
                return counted;
            }
            tries += 1;
            if tries % 64 == 0 {
                std::thread::yield_now();
            }
        }
    }
}

fn read(counters: &[AtomicU64]) -> Vec<u64> {
    counters.iter().map(|counter| counter.load(Ordering::Relaxed)).collect()
}

impl Counted {
    /// Nothing yet.
    pub(crate) fn none() -> Self {
        Self { accepted: 0, outcomes: vec![0; VERDICTS], queued: vec![0; BUCKETS], ran: vec![0; BUCKETS] }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        for (mine, theirs) in
            [(&mut self.outcomes, &other.outcomes), (&mut self.queued, &other.queued), (&mut self.ran, &other.ran)]
        {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
    }

    /// Calls that are answered.
    pub(crate) fn answered(&self) -> u64 {
        self.outcomes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stats::buckets::bucket;

    #[test]
    fn the_numbers_of_a_procedure_are_read_as_they_were_at_one_moment() {
        let block = Arc::new(Block::new(1));
        let writer = {
            let block = block.clone();
            std::thread::spawn(move || {
                for _ in 0..200_000 {
                    block.accepted(0);
                    let time = bucket(3_000);
                    block.answered(0, Verdict::OK, time, Some(time));
                }
            })
        };
        while !writer.is_finished() {
            let Some(counted) = block.read(0) else { continue };
            let answered = counted.answered();
            assert!(counted.accepted - answered <= 1, "{counted:?}");
            assert_eq!(counted.queued.iter().sum::<u64>(), answered);
            assert_eq!(counted.ran.iter().sum::<u64>(), answered);
        }
        writer.join().unwrap();
        assert_eq!(block.read(0).unwrap().answered(), 200_000);
    }

    #[test]
    fn a_client_is_counted_in_one_state_at_a_time() {
        let block = Block::new(0);
        block.client(None, Some(State::Idle));
        block.client(Some(State::Idle), Some(State::Busy));
        assert_eq!((block.read_clients(State::Idle), block.read_clients(State::Busy)), (0, 1));
        block.client(Some(State::Busy), None);
        assert_eq!(block.read_clients(State::Busy), 0);
    }
}
