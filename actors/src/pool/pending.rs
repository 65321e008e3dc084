//! Calls that wait with the pool: plain data, in the order in which they will be taken.
//!
//! Those of priority procedures before the others; within a priority fair between clients, and first in, first out
//! for each of them. Its bound is the permit that each call carries, so it has none of its own.
//!
//! With `queue_target` ordinary calls that have waited too long are shed when their turn comes ([`Shed`]); whoever takes
//! calls takes those too, and has them answered.

use std::time::Duration;

use crate::estimate::{MAX_WAIT_NS, QUANTUM_NS};
use crate::job::Job;
use crate::pool::fair::{Fair, TURN_NS};
use crate::pool::growth::Demand;
use crate::pool::shed::{Shed, Standing};
use crate::pool::tray::{Source, Tray};
use crate::program::Class;
use crate::program::registry::Registry;
use crate::time::Instant;

/// Calls that wait, apart by who may take them.
#[derive(Debug)]
pub(crate) struct Pending {
    blocking: Lanes,
    asynchronous: Lanes,
    /// Calls that were shed and are not answered yet.
    shed: Vec<Job>,
}

#[derive(Debug)]
struct Lanes {
    shed: Shed,
    priority: Fair<Waiting, ()>,
    ordinary: Fair<Waiting, Standing>,
    /// The sums of what is in both, as [`Demand`] counts them.
    quick_ns: u64,
    slow_ns: u64,
}

#[derive(Debug)]
struct Waiting {
    job: Job,
    since: Instant,
    /// What it was expected to take when it came.
    expected_ns: u64,
}

/// At which end of its lane a call starts to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Back,
    /// For calls that have waited before.
    Front,
}

/// Which calls a worker takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    All,
    PriorityOnly,
}

impl Waiting {
    fn is_quick(&self) -> bool {
        self.expected_ns <= QUANTUM_NS
    }
}

impl Lanes {
    fn sum(&mut self, waiting: &Waiting) -> &mut u64 {
        if waiting.is_quick() { &mut self.quick_ns } else { &mut self.slow_ns }
    }

    fn next(&self, takes: Takes) -> Option<&Waiting> {
        let ordinary = || if takes == Takes::All { self.ordinary.peek() } else { None };
        self.priority.peek().or_else(ordinary)
    }

    fn pop(&mut self, takes: Takes, now: Instant, shed: &mut Vec<Job>) -> Option<Job> {
        if let Some((waiting, ())) = self.priority.pop_with(|waiting, ()| (waiting.expected_ns, ())) {
            return Some(self.taken(waiting));
        }
        if takes == Takes::PriorityOnly {
            return None;
        }
        loop {
            let is_last = self.ordinary.len() == 1;
            let sheds = |waiting: &Waiting, standing: &mut Standing| {
                let sheds = self.shed.sheds(standing, now.saturating_duration_since(waiting.since), is_last, now);
                // One that is shed is a turn, for there may be many.
                (if sheds { TURN_NS } else { waiting.expected_ns }, sheds)
            };
            let (waiting, is_shed) = self.ordinary.pop_with(sheds)?;
            let job = self.taken(waiting);
            if !is_shed {
                return Some(job);
            }
            shed.push(job);
        }
    }

    fn taken(&mut self, waiting: Waiting) -> Job {
        *self.sum(&waiting) -= waiting.expected_ns;
        let mut job = waiting.job;
        job.permit = None;
        job
    }

    fn len(&self) -> usize {
        self.priority.len() + self.ordinary.len()
    }
}

impl Pending {
    /// Nothing waits. Calls are shed by this target for their time in the queue, over this interval; zero sheds none.
    pub(crate) fn new(target: Duration, interval: Duration) -> Self {
        let lanes = || Lanes {
            shed: Shed::new(target, interval),
            priority: Fair::default(),
            ordinary: Fair::default(),
            quick_ns: 0,
            slow_ns: 0,
        };
        Self { blocking: lanes(), asynchronous: lanes(), shed: Vec::new() }
    }

    /// The calls that were shed since the last time, for the caller to answer.
    pub(crate) fn take_shed(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.shed)
    }

    pub(crate) fn push(&mut self, job: Job, end: End, registry: &Registry, now: Instant) {
        let procedure = registry.procedure(job.ticket.entry);
        let expected_ns = procedure.estimate.get().min(MAX_WAIT_NS);
        let lanes = self.lanes_mut(procedure.class);
        let waiting = Waiting { job, since: now, expected_ns };
        *lanes.sum(&waiting) += expected_ns;
        let client = waiting.job.ticket.client_id;
        if lanes.ordinary.len() == 0 {
            lanes.shed.emptied();
        }
        match (procedure.priority, end) {
            (true, End::Back) => lanes.priority.push_back(client, waiting),
            (true, End::Front) => lanes.priority.push_front(client, waiting),
            (false, End::Back) => lanes.ordinary.push_back(client, waiting),
            (false, End::Front) => lanes.ordinary.push_front(client, waiting),
        }
    }

    /// The next call for a worker of this class. Its permit is given back: it is pending no more.
    pub(crate) fn pop(&mut self, class: Class, now: Instant) -> Option<Job> {
        let Self { blocking, asynchronous, shed } = self;
        let lanes = if class == Class::Asynchronous { asynchronous } else { blocking };
        lanes.pop(Takes::All, now, shed)
    }

    pub(crate) fn len(&self, class: Class) -> usize {
        self.lanes(class).len()
    }

    /// How many blocking calls of priority procedures wait.
    pub(crate) fn priority_len(&self) -> usize {
        self.blocking.priority.len()
    }

    /// Fills a worker's tray with what comes next. False when the worker has left.
    pub(crate) fn fill(&mut self, takes: Takes, tray: &Tray, registry: &Registry, now: Instant) -> bool {
        let Self { blocking: lanes, shed, .. } = self;
        tray.fill(&mut Blocking { lanes, shed, takes, now, registry }, now)
    }

    /// Drops calls that are not to be kept, wherever they wait; the order of the others stays.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Job) -> bool) {
        for lanes in [&mut self.blocking, &mut self.asynchronous] {
            let (mut quick, mut slow) = (lanes.quick_ns, lanes.slow_ns);
            let mut stays = |waiting: &Waiting| {
                let stays = keep(&waiting.job);
                if !stays {
                    *(if waiting.is_quick() { &mut quick } else { &mut slow }) -= waiting.expected_ns;
                }
                stays
            };
            lanes.priority.retain(&mut stays);
            lanes.ordinary.retain(&mut stays);
            (lanes.quick_ns, lanes.slow_ns) = (quick, slow);
        }
    }

    /// What waits for a blocking worker, for the growth of the pool.
    pub(crate) fn demand(&self, now: Instant) -> Demand {
        let lanes = &self.blocking;
        let next = [lanes.priority.peek(), lanes.ordinary.peek()];
        let longest = next.into_iter().flatten().min_by_key(|waiting| waiting.since);
        Demand {
            calls: lanes.len(),
            quick_ns: lanes.quick_ns,
            slow_ns: lanes.slow_ns,
            waited: longest.map_or(Duration::ZERO, |waiting| now.saturating_duration_since(waiting.since)),
        }
    }

    fn lanes(&self, class: Class) -> &Lanes {
        match class {
            Class::Asynchronous => &self.asynchronous,
            // Inline calls never come here.
            Class::Blocking | Class::Inline => &self.blocking,
        }
    }

    fn lanes_mut(&mut self, class: Class) -> &mut Lanes {
        match class {
            Class::Asynchronous => &mut self.asynchronous,
            Class::Blocking | Class::Inline => &mut self.blocking,
        }
    }
}

struct Blocking<'a> {
    lanes: &'a mut Lanes,
    shed: &'a mut Vec<Job>,
    takes: Takes,
    now: Instant,
    registry: &'a Registry,
}

impl Source for Blocking<'_> {
    fn estimate(&self) -> Option<u64> {
        let waiting = self.lanes.next(self.takes)?;
        Some(self.registry.procedure(waiting.job.ticket.entry).estimate.get())
    }

    fn take(&mut self) -> Option<Job> {
        self.lanes.pop(self.takes, self.now, self.shed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{Procedure, Program};

    fn registry() -> Registry {
        let mut program = Program::new("test", 1, 1);
        let classes = [(Class::Blocking, false), (Class::Blocking, true), (Class::Asynchronous, false)];
        for (number, (class, priority)) in (1..).zip(classes) {
            program.procedures.push(Procedure {
                number,
                name: format!("p{number}"),
                class,
                priority,
                runs_to_end: false,
                schemas: None,
                group: 0,
                run: 0,
            });
        }
        Registry::new(vec![program], 0).unwrap()
    }

    fn job(serial: u32, procedure: i32, registry: &Registry) -> Job {
        let mut job = Job::for_test(serial);
        job.ticket.entry = registry.find(1, 1, procedure).unwrap();
        job
    }

    #[test]
    fn calls_are_taken_in_order_priority_first_and_each_class_by_itself() {
        let registry = registry();
        let mut pending = Pending::new(Duration::ZERO, Duration::ZERO);
        for (serial, procedure, end) in
            [(1, 1, End::Back), (2, 1, End::Back), (3, 2, End::Back), (4, 3, End::Back), (5, 1, End::Front)]
        {
            pending.push(job(serial, procedure, &registry), end, &registry, Instant::now());
        }
        assert_eq!((pending.len(Class::Blocking), pending.len(Class::Asynchronous)), (4, 1));
        let taken: Vec<u32> =
            std::iter::from_fn(|| pending.pop(Class::Blocking, Instant::now())).map(|job| job.ticket.serial).collect();
        assert_eq!(taken, [3, 5, 1, 2]);
        assert_eq!(pending.pop(Class::Asynchronous, Instant::now()).map(|job| job.ticket.serial), Some(4));
    }

    #[test]
    fn a_priority_worker_takes_nothing_else_and_calls_that_are_not_kept_are_gone() {
        let registry = registry();
        let mut pending = Pending::new(Duration::ZERO, Duration::ZERO);
        let now = Instant::now();
        for (serial, procedure) in [(1, 1), (2, 2), (3, 3), (4, 1), (5, 2)] {
            pending.push(job(serial, procedure, &registry), End::Back, &registry, now);
        }
        let expected = Demand { calls: 4, slow_ns: 4 * MAX_WAIT_NS, ..Demand::default() };
        assert_eq!(pending.demand(now), expected);
        pending.retain(|job| ![1, 2, 3].contains(&job.ticket.serial));
        assert_eq!(pending.demand(now), Demand { calls: 2, slow_ns: 2 * MAX_WAIT_NS, ..expected });
        assert_eq!((pending.priority_len(), pending.len(Class::Asynchronous)), (1, 0));
        let tray = Tray::new(1, now);
        assert!(pending.fill(Takes::PriorityOnly, &tray, &registry, now));
        assert_eq!(tray.pop(now).map(|job| job.ticket.serial), Some(5));
        assert!(pending.fill(Takes::PriorityOnly, &tray, &registry, now) && tray.pop(now).is_none());
        assert_eq!(pending.pop(Class::Blocking, now).map(|job| job.ticket.serial), Some(4));
        assert_eq!(pending.demand(now), Demand::default());
    }

    /// A worker that takes 5 ms for each call, three heavy calls for each that it can do, and one light call now and
    /// then by another client: served and shed calls of the heavy one, and the longest wait of those that were served,
    /// for both.
    fn heavy_and_light(target: u64, each: u64) -> (usize, usize, [Duration; 2]) {
        let registry = registry();
        let start = Instant::now();
        let ms = |ms: u64| start + Duration::from_millis(ms);
        let interval = Duration::from_millis(100);
        let mut pending = Pending::new(Duration::from_millis(target), interval);
        let (mut served, mut shed, mut longest, mut free) = (0, 0, [Duration::ZERO; 2], 0);
        for now in 0..200 * each {
            let mut push = |client: u64, serial: u64| {
                let mut job = job(serial as u32, 1, &registry);
                job.ticket.client_id = client;
                pending.push(job, End::Back, &registry, ms(now));
            };
            if now % (each / 3).max(1) == 0 {
                push(1, now);
            }
            if now % (4 * each) == 0 {
                push(2, now);
            }
            if now < free {
                continue;
            }
            let Some(job) = pending.pop(Class::Blocking, ms(now)) else { continue };
            free = now + each;
            let waited = Duration::from_millis(now - u64::from(job.ticket.serial));
            let client = job.ticket.client_id as usize - 1;
            // The time until the queue is known as standing does not count.
            if now > 300.max(4 * each) {
                longest[client] = longest[client].max(waited);
            }
            served += usize::from(client == 0);
            let gone = pending.take_shed();
            // Where a single turn is longer than the target, even the call that comes next is late.
            assert!(each > target || gone.iter().all(|job| job.ticket.client_id == 1), "a light client's call is shed");
            shed += gone.len();
        }
        (served, shed, longest)
    }

    #[test]
    fn a_heavy_clients_calls_are_shed_also_while_those_of_a_light_one_pass_by() {
        for each in [5, 60, 250, 500] {
            let (served, shed, [heavy, light]) = heavy_and_light(10, each);
            // One that waits while a call runs is the last one, and is served.
            let soon = Duration::from_millis(25.max(2 * each));
            assert!(shed > served && served > 50, "{each} ms: {served} served, {shed} shed");
            assert!(heavy <= soon && light <= soon, "{each} ms: {heavy:?}, {light:?}");
        }
        let (_, shed, [heavy, _]) = heavy_and_light(0, 5);
        assert!(shed == 0 && heavy > Duration::from_millis(500), "{shed}, {heavy:?}");
    }
}
