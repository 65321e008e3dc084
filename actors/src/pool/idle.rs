//! The set of idle workers: lock-free, because every I/O arbiter claims from it for every batch.
//!
//! One bit per worker. A worker puts itself in; who claims it has the right, and the duty, to fill its tray and wake
//! it. Low numbers are claimed first, so that few threads stay warm and the others stay asleep.
//!
//! All operations are sequentially consistent: a worker that goes idle writes its bit and then reads how many calls
//! wait with the pool, the pool writes how many calls wait and then reads the bits, so one of the two sees the other.

use crate::sync::{AtomicU64, AtomicUsize, SeqCst};

#[derive(Debug)]
pub(crate) struct IdleSet {
    words: Box<[AtomicU64]>,
    /// Slots below this one may be in use; the words behind them are not looked at.
    used: AtomicUsize,
}

impl IdleSet {
    /// An empty set for workers 0 to `workers` - 1.
    pub(crate) fn new(workers: usize) -> Self {
        Self { words: (0..workers.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(), used: AtomicUsize::new(0) }
    }

    /// Workers 0 to `slots` - 1 may be put in. Told before the first of them is.
    pub(crate) fn use_slots(&self, slots: usize) {
        self.used.store(slots.min(self.words.len() * 64), SeqCst);
    }

    pub(crate) fn used_slots(&self) -> usize {
        self.used.load(SeqCst)
    }

    /// How many workers are in it.
    pub(crate) fn len(&self) -> usize {
        self.words.iter().map(|word| word.load(SeqCst).count_ones() as usize).sum()
    }

    /// Puts a worker in.
    pub(crate) fn insert(&self, worker: usize) {
        self.words[worker / 64].fetch_or(bit(worker), SeqCst);
    }

    /// Takes out this worker; false when somebody else has claimed it.
    pub(crate) fn remove(&self, worker: usize) -> bool {
        self.words[worker / 64].fetch_and(!bit(worker), SeqCst) & bit(worker) != 0
    }

    /// Takes out one worker.
    pub(crate) fn claim(&self) -> Option<usize> {
        for (index, word) in self.words.iter().enumerate().take(self.used_slots().div_ceil(64)) {
            let mut seen = word.load(SeqCst);
            while seen != 0 {
                let lowest = seen & seen.wrapping_neg();
                match word.compare_exchange_weak(seen, seen & !lowest, SeqCst, SeqCst) {
                    Ok(_) => return Some(index * 64 + lowest.trailing_zeros() as usize),
                    Err(now) => seen = now,
                }
            }
        }
        None
    }
}

fn bit(worker: usize) -> u64 {
    1 << (worker % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_is_claimed_once_lowest_first() {
        let idle = IdleSet::new(130);
        idle.use_slots(130);
        for worker in [129, 3, 64] {
            idle.insert(worker);
        }
        assert_eq!([idle.claim(), idle.claim(), idle.claim(), idle.claim()], [Some(3), Some(64), Some(129), None]);
    }

    #[test]
    fn a_worker_that_was_claimed_cannot_take_itself_out() {
        let idle = IdleSet::new(1);
        idle.use_slots(1);
        idle.insert(0);
        assert!(idle.remove(0));
        idle.insert(0);
        assert_eq!(idle.claim(), Some(0));
        assert!(!idle.remove(0));
    }
}
