//! The very files in which arbiters, workers and the pool meet, with loom's atomics in place of the standard ones.

//!
//! A program rather than tests, so that the files' own tests, which are no models, stay out of it. loom knows
//! sequential consistency of fences only, so what this proves rests on the fences and on nothing stronger.

#![allow(dead_code)]

/// What the files take their atomics from.
pub(crate) mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst, fence};
}

#[path = "../../src/pool"]
pub(crate) mod pool {
    #[path = "idle.rs"]
    pub(crate) mod idle;
    #[path = "meeting.rs"]
    pub(crate) mod meeting;
}

use std::collections::VecDeque;

use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::pool::meeting::Meeting;
use crate::sync::{AtomicBool, AtomicUsize, SeqCst};

/// A pool as the hand-over uses it: what waits lies under a lock, each worker has a tray and a bell.
struct Pool {
    meeting: Meeting,
    pending: Mutex<VecDeque<u32>>,
    trays: Vec<Mutex<VecDeque<u32>>>,
    rung: Vec<AtomicBool>,
    leaving: Vec<AtomicBool>,
    run: AtomicUsize,
}

impl Pool {
    fn new(workers: usize) -> Arc<Self> {
        let meeting = Meeting::new(workers);
        meeting.use_slots(workers);
        Arc::new(Self {
            meeting,
            pending: Mutex::new(VecDeque::new()),
            trays: (0..workers).map(|_| Mutex::new(VecDeque::new())).collect(),
            rung: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            leaving: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            run: AtomicUsize::new(0),
        })
    }

    /// An arbiter has a call: an idle worker gets it, else it goes to the pool, which looks again.
    fn hand_over(&self, call: u32) {
        match self.meeting.claim() {
            Some(worker) => self.give(worker, call),
            None => self.take_in(call),
        }
    }

    fn take_in(&self, call: u32) {
        let mut pending = self.pending.lock().unwrap();
        pending.push_back(call);
        self.meeting.announce(pending.len());
        while !pending.is_empty() {
            let Some(worker) = self.meeting.claim_again() else { break };
            if let Some(call) = pending.pop_front() {
                self.give(worker, call);
            }
            self.meeting.announce(pending.len());
        }
    }

    fn give(&self, worker: usize, call: u32) {
        self.trays[worker].lock().unwrap().push_back(call);
        self.rung[worker].store(true, SeqCst);
    }

    /// A worker works until it rests. Returns whether it has left.
    fn work(&self, worker: usize) -> bool {
        loop {
            while self.trays[worker].lock().unwrap().pop_front().is_some() {
                self.run.fetch_add(1, SeqCst);
            }
            if self.leaving[worker].load(SeqCst) {
                return true;
            }
            if self.meeting.waiting() > 0 {
                let mut pending = self.pending.lock().unwrap();
                if let Some(call) = pending.pop_front() {
                    self.trays[worker].lock().unwrap().push_back(call);
                    self.meeting.announce(pending.len());
                    continue;
                }
            }
            if self.meeting.rest(worker, &self.leaving[worker]) {
                return false;
            }
        }
    }

    /// Everybody is done for now. Those whose bell was rung go on; then every call has run, once.
    fn is_well(&self, calls: usize) {
        while let Some(worker) = self.rung.iter().position(|rung| rung.swap(false, SeqCst)) {
            self.work(worker);
        }
        assert_eq!(self.pending.lock().unwrap().len(), 0, "a call waits, and every worker is idle");
        let held: usize = self.trays.iter().map(|tray| tray.lock().unwrap().len()).sum();
        assert_eq!(held, 0, "a call lies in the tray of a worker that nobody wakes");
        assert_eq!(self.run.load(SeqCst), calls, "a call was lost or run twice");
    }
}

fn no_call_waits_while_a_worker_goes_idle() {
    loom::model(|| {
        let pool = Pool::new(1);
        let arbiter = thread::spawn({
            let pool = pool.clone();
            move || pool.hand_over(1)
        });
        pool.work(0);
        arbiter.join().unwrap();
        pool.is_well(1);
    });
}

fn two_arbiters_and_a_worker_that_goes_idle_lose_nothing() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let pool = Pool::new(1);
        let arbiters = [1, 2].map(|call| {
            let pool = pool.clone();
            thread::spawn(move || pool.hand_over(call))
        });
        pool.work(0);
        arbiters.into_iter().for_each(|arbiter| arbiter.join().unwrap());
        pool.is_well(2);
    });
}

fn two_workers_that_go_idle_take_a_call_once() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let pool = Pool::new(2);
        let other = thread::spawn({
            let pool = pool.clone();
            move || pool.work(1)
        });
        let arbiter = thread::spawn({
            let pool = pool.clone();
            move || pool.hand_over(1)
        });
        pool.work(0);
        let _ = other.join().unwrap();
        arbiter.join().unwrap();
        pool.is_well(1);
    });
}

fn a_worker_that_is_told_to_leave_while_it_goes_idle_leaves_or_is_withdrawn() {
    loom::model(|| {
        let pool = Pool::new(1);
        let supervisor = thread::spawn({
            let pool = pool.clone();
            move || {
                pool.leaving[0].store(true, SeqCst);
                pool.meeting.withdraw(0)
            }
        });
        let has_left = pool.work(0);
        let was_withdrawn = supervisor.join().unwrap();
        assert!(has_left || was_withdrawn, "it rests, and nobody sends it away");
    });
}

fn main() {
    let models: [(&str, fn()); 4] = [
        ("no call waits while a worker goes idle", no_call_waits_while_a_worker_goes_idle),
        ("two arbiters and a worker lose nothing", two_arbiters_and_a_worker_that_goes_idle_lose_nothing),
        ("two workers take a call once", two_workers_that_go_idle_take_a_call_once),
        ("a worker that is to leave does", a_worker_that_is_told_to_leave_while_it_goes_idle_leaves_or_is_withdrawn),
    ];
    for (name, model) in models {
        model();
        println!("{name}: holds in every order");
    }
}
