//! Calls that wait with the pool: plain data, in the order in which they will be taken.
//!
//! First in, first out; those of priority procedures before the others. Its bound is the permit that each call
//! carries, so it has none of its own.

use std::collections::VecDeque;
use std::time::Instant;

use crate::job::Job;
use crate::pool::tray::{Source, Tray};
use crate::program::Class;
use crate::program::registry::Registry;

/// Calls that wait, apart by who may take them.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    blocking: Lanes,
    asynchronous: Lanes,
}

#[derive(Debug, Default)]
struct Lanes {
    priority: VecDeque<Job>,
    ordinary: VecDeque<Job>,
}

/// At which end of its lane a call starts to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Back,
    /// For calls that have waited before.
    Front,
}

impl Pending {
    pub(crate) fn push(&mut self, job: Job, end: End, registry: &Registry) {
        let procedure = registry.procedure(job.entry);
        let lanes = self.lanes(procedure.class);
        let lane = if procedure.priority { &mut lanes.priority } else { &mut lanes.ordinary };
        match end {
            End::Back => lane.push_back(job),
            End::Front => lane.push_front(job),
        }
    }

    /// The next call for a worker of this class. Its permit is given back: it is pending no more.
    pub(crate) fn pop(&mut self, class: Class) -> Option<Job> {
        let lanes = self.lanes(class);
        let mut job = lanes.priority.pop_front().or_else(|| lanes.ordinary.pop_front())?;
        job.permit = None;
        Some(job)
    }

    pub(crate) fn len(&self, class: Class) -> usize {
        let lanes = match class {
            Class::Asynchronous => &self.asynchronous,
            Class::Blocking | Class::Inline => &self.blocking,
        };
        lanes.priority.len() + lanes.ordinary.len()
    }

    /// Fills a worker's tray with what comes next.
    pub(crate) fn fill(&mut self, tray: &Tray, registry: &Registry, now: Instant) {
        tray.fill(&mut Blocking { pending: self, registry }, now);
    }

    fn lanes(&mut self, class: Class) -> &mut Lanes {
        match class {
            Class::Asynchronous => &mut self.asynchronous,
            // Inline calls never come here.
            Class::Blocking | Class::Inline => &mut self.blocking,
        }
    }
}

struct Blocking<'a> {
    pending: &'a mut Pending,
    registry: &'a Registry,
}

impl Source for Blocking<'_> {
    fn estimate(&self) -> Option<u64> {
        let lanes = &self.pending.blocking;
        let job = lanes.priority.front().or_else(|| lanes.ordinary.front())?;
        Some(self.registry.procedure(job.entry).estimate.get())
    }

    fn take(&mut self) -> Option<Job> {
        self.pending.pop(Class::Blocking)
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
        Registry::new(vec![program]).unwrap()
    }

    fn job(serial: u32, procedure: i32, registry: &Registry) -> Job {
        Job { entry: registry.find(1, 1, procedure).unwrap(), ..Job::for_test(serial) }
    }

    #[test]
    fn calls_are_taken_in_order_priority_first_and_each_class_by_itself() {
        let registry = registry();
        let mut pending = Pending::default();
        for (serial, procedure, end) in
            [(1, 1, End::Back), (2, 1, End::Back), (3, 2, End::Back), (4, 3, End::Back), (5, 1, End::Front)]
        {
            pending.push(job(serial, procedure, &registry), end, &registry);
        }
        assert_eq!((pending.len(Class::Blocking), pending.len(Class::Asynchronous)), (4, 1));
        let taken: Vec<u32> =
            std::iter::from_fn(|| pending.pop(Class::Blocking)).map(|job| job.ticket.serial).collect();
        assert_eq!(taken, [3, 5, 1, 2]);
        assert_eq!(pending.pop(Class::Asynchronous).map(|job| job.ticket.serial), Some(4));
    }
}
