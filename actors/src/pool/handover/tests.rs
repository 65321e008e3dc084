use std::cell::Cell;
use std::collections::VecDeque;

use super::dispatch::Batch;
use super::*;
use crate::estimate::QUANTUM;
use crate::program::{Class, Procedure, Program};

/// Two ordinary workers, both at work on a call each that takes a quantum less `room`; and a procedure whose calls take
/// 1 µs.
fn at_work(room: [Duration; 2]) -> (Arc<Handover>, Instant) {
    let now = Instant::now();
    let mut program = Program::new("program", 1, 1);
    program.procedures = ["quick", "a", "b"]
        .into_iter()
        .zip(1..)
        .map(|(name, number)| Procedure {
            number,
            name: name.to_owned(),
            class: Class::Blocking,
            priority: false,
            runs_to_end: false,
            schemas: None,
            group: 0,
            run: 0,
        })
        .collect();
    let registry = Arc::new(Registry::new(vec![program], 0).unwrap());
    let hubs = Arc::new(Hubs::new(1, registry.procedures.len()));
    let handover = Handover::new(registry, hubs, &Limits::default(), now);
    handover.use_places(2, 0, 0);
    handover.registry.procedure(0).estimate.observe(1_000);
    for (worker, room) in room.into_iter().enumerate() {
        handover.registry.procedure(worker as u32 + 1).estimate.observe((QUANTUM - room).as_nanos() as u64);
        handover.reset(worker, now);
        let mut first = jobs(&handover, 1, worker as u32 + 1);
        let mut first = Batch { jobs: &mut first, registry: &handover.registry };
        assert!(handover.tray(worker).fill(&mut first, now));
        assert!(handover.tray(worker).pop(now).is_some());
    }
    (handover, now)
}

fn jobs(handover: &Handover, calls: u32, entry: u32) -> VecDeque<Job> {
    let jobs = (0..calls).map(|serial| {
        let mut job = Job::for_test(serial);
        job.ticket.entry = entry;
        handover.hubs.stages(0).open(job.ticket.call);
        job
    });
    jobs.collect()
}

/// How many calls each worker has not begun, and how many were sent to the pool actor.
fn dispatched(handover: &Handover, calls: u32, now: Instant) -> ([usize; 2], usize) {
    let mut jobs = jobs(handover, calls, 0);
    assert!(handover.dispatch(&mut jobs, &Cell::new(1), now));
    let pended = handover.take_baskets().into_iter().map(|basket| basket.into_jobs().len()).sum();
    let trays = [0, 1].map(|worker| handover.tray(worker).leave().jobs.len());
    (trays, pended)
}

#[test]
fn calls_for_which_no_worker_is_idle_wait_with_those_that_come_to_them_in_time_and_the_rest_with_the_pool() {
    let micros = Duration::from_micros;
    let (handover, now) = at_work([micros(10), micros(20)]);
    assert_eq!(dispatched(&handover, 50, now), ([10, 20], 20));
    let (handover, now) = at_work([micros(10), micros(20)]);
    assert_eq!(dispatched(&handover, 15, now), ([0, 15], 0), "the one that got the last calls is asked first");
    let (handover, now) = at_work([micros(10), micros(20)]);
    let late = now + QUANTUM + micros(1);
    assert_eq!(dispatched(&handover, 5, late), ([0, 0], 5), "both take longer than expected");
}

#[test]
fn nobody_overtakes_what_waits_with_the_pool() {
    let (handover, now) = at_work([QUANTUM / 2; 2]);
    handover.ordinary.announce(1);
    assert_eq!(dispatched(&handover, 5, now), ([0, 0], 5));
}
