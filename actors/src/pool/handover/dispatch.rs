//! The way of calls from an I/O arbiter: to workers at work and idle ones, else to the pool actor.
//!
//! Only arbiters come here, each at the end of a turn of its loop.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::SeqCst;

use postroom_protocol::Error;

use super::Handover;
use crate::job::{Basket, Job};
use crate::pool::TakeIn;
use crate::pool::permit::Full;
use crate::pool::place::ORDINARY;
use crate::pool::tray::Source;
use crate::program::registry::Registry;
use crate::time::Instant;

/// So many workers at work are offered calls when none is idle: the first ones, which are claimed most.
const OFFERED: usize = 4;

impl Handover {
    /// Hands on what an I/O arbiter got in one turn of its loop, and leaves the room for the next. `last` is the worker it
    /// gave to before.
    ///
    /// Returns whether a call may now wait behind another, so that somebody has to look after it ([`Self::rescue`]).
    pub(crate) fn dispatch(&self, jobs: &mut VecDeque<Job>, last: &Cell<usize>, now: Instant) -> bool {
        let is_priority = |job: &Job| self.registry.procedure(job.ticket.entry).priority;
        let mut watch = false;
        let mut first = Vec::new();
        if self.has_priority && jobs.iter().any(is_priority) {
            let (mut priority, ordinary): (VecDeque<Job>, VecDeque<Job>) = jobs.drain(..).partition(is_priority);
            *jobs = ordinary;
            let mut batch = Batch { jobs: &mut priority, registry: &self.registry };
            watch |= self.spread(&mut batch, || self.claim_for_priority(), last, now);
            first = priority.into();
        }
        let mut jobs = Batch { jobs, registry: &self.registry };
        let before = jobs.jobs.len();
        // What waits with the pool goes first: a tray that is topped up all the time would never come to it.
        let is_next = self.ordinary.waiting() == 0;
        if before > 0 && is_next {
            self.tray(last.get()).offer(&mut jobs, now);
        }
        watch |= jobs.jobs.len() < before;
        watch |= self.spread(&mut jobs, || self.ordinary.claim(), last, now);
        let left = jobs.jobs.len();
        if left > 0 && is_next {
            // All are at work. What one of them comes to in time is better off there: to wait with the pool costs more.
            for worker in 0..self.ordinary.used_slots().min(OFFERED) {
                if jobs.jobs.is_empty() {
                    break;
                }
                self.tray(worker).offer(&mut jobs, now);
            }
            watch |= jobs.jobs.len() < left;
        }
        if jobs.jobs.is_empty() && first.is_empty() {
            return watch;
        }
        first.extend(jobs.jobs.drain(..));
        self.pend(first);
        true
    }

    /// Gives jobs to workers that `claim` takes. Returns whether one of them waits behind another.
    fn spread(
        &self,
        jobs: &mut Batch<'_>,
        claim: impl Fn() -> Option<usize>,
        last: &Cell<usize>,
        now: Instant,
    ) -> bool {
        let mut watch = false;
        while !jobs.jobs.is_empty() {
            let Some(worker) = claim() else { break };
            let before = jobs.jobs.len();
            self.give(worker, |tray| tray.fill(jobs, now));
            watch |= before - jobs.jobs.len() > 1;
            if worker < ORDINARY {
                last.set(worker);
            }
        }
        watch
    }

    /// An idle worker for a priority call.
    fn claim_for_priority(&self) -> Option<usize> {
        self.ordinary.claim().or_else(|| Some(ORDINARY + self.priority.claim()?))
    }

    /// Hands on async calls.
    pub(crate) fn dispatch_async(&self, mut jobs: Vec<Job>) {
        if self.waiting_async.load(SeqCst) == 0 {
            while !jobs.is_empty() {
                let Some((worker, places)) = self.reserve(jobs.len()) else { break };
                let rest = jobs.split_off(places);
                if let Err(mut given_back) = self.async_place(worker).put(std::mem::replace(&mut jobs, rest)) {
                    given_back.append(&mut jobs);
                    jobs = given_back;
                }
            }
        }
        if !jobs.is_empty() {
            self.pend(jobs);
        }
    }

    /// Sends calls that no worker can take now to the pool actor, or answers them when too many wait.
    fn pend(&self, jobs: Vec<Job>) {
        let mut admitted = Vec::with_capacity(jobs.len());
        for mut job in jobs {
            let cost = u64::from(job.ticket.cost);
            let permit = self.gauge.acquire(cost);
            match permit.or_else(|full| if self.sweep() { self.gauge.acquire(cost) } else { Err(full) }) {
                Ok(permit) => {
                    job.permit = Some(permit);
                    job.payload.keep_alone();
                    admitted.push(job);
                }
                Err(Full { key, value }) => {
                    let error = Error::overloaded(key, value, self.retry_after_ms(&job));
                    self.hubs.refuse(vec![job], &error);
                }
            }
        }
        let basket = TakeIn(Basket::new(admitted, self.hubs.clone()));
        match self.pool.get() {
            Some(pool) => pool.do_send(basket),
            #[cfg(test)]
            None => self.baskets.lock().unwrap().push(basket.0),
            // The pool actor starts before the first client; a basket that is dropped is answered.
            #[cfg(not(test))]
            None => drop(basket),
        }
    }

    /// When a refused call may be tried again: when what waits now is done, by the measured time of this procedure.
    fn retry_after_ms(&self, job: &Job) -> u32 {
        let each = self.registry.procedure(job.ticket.entry).estimate.get();
        let waiting = self.ordinary.waiting() as u64;
        let workers = self.ordinary.used_slots().max(1) as u64;
        let ms = each.saturating_mul(waiting) / workers / 1_000_000;
        ms.clamp(10, 10_000) as u32
    }
}

/// Jobs on their way out of an I/O arbiter.
pub(super) struct Batch<'a> {
    pub(super) jobs: &'a mut VecDeque<Job>,
    pub(super) registry: &'a Registry,
}

impl Source for Batch<'_> {
    fn estimate(&self) -> Option<u64> {
        self.jobs.front().map(|job| self.registry.procedure(job.ticket.entry).estimate.get())
    }

    fn take(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }
}
