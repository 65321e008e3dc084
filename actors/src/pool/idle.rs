//! The set of idle workers: lock-free, because every I/O arbiter claims from it for every batch.
//!
//! One bit per worker. A worker puts itself in; who claims it has the right, and the duty, to fill its tray and wake
//! it. Low numbers are claimed first, so that few threads stay warm and the others stay asleep.
//!
//! All operations are sequentially consistent: a worker that goes idle writes its bit and then reads how many calls
//! wait with the pool, the pool writes how many calls wait and then reads the bits, so one of the two sees the other.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

#[derive(Debug)]
pub(crate) struct IdleSet {
    words: Box<[AtomicU64]>,
}

impl IdleSet {
    /// An empty set for workers 0 to `workers` - 1.
    pub(crate) fn new(workers: usize) -> Self {
        Self { words: (0..workers.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
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
        for (index, word) in self.words.iter().enumerate() {
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
        for worker in [129, 3, 64] {
            idle.insert(worker);
        }
        assert_eq!([idle.claim(), idle.claim(), idle.claim(), idle.claim()], [Some(3), Some(64), Some(129), None]);
    }

    #[test]
    fn a_worker_that_was_claimed_cannot_take_itself_out() {
        let idle = IdleSet::new(1);
        idle.insert(0);
        assert!(idle.remove(0));
        idle.insert(0);
        assert_eq!(idle.claim(), Some(0));
        assert!(!idle.remove(0));
    }
}
