//! One fault at a time: whatever a handler does, again and again, the memory of the process stays what it was.
//!
//! A storm finds that something is lost; this says by what.

use std::time::{Duration, Instant};

use postroom::{Address, Config, Service};

use crate::memory::allocated;
use crate::program::{ALL, Args, FIRE, Shared, What, proc, program};
use crate::support::{Client, call, encode};
use crate::{settings, witness};

/// How often a service gets each fault.
const TIMES: u64 = 20;

#[test]
fn no_fault_of_a_handler_costs_memory() {
    let _alone = settings::alone();
    witness::call();
    for procedure in [proc::BLOCKING, proc::PRIORITY, proc::INLINE, proc::ASYNC, proc::BAD_DROP] {
        // Nothing replaces an I/O thread that a handler ends, and what hangs there hangs for all.
        let is_deadly = |what: &What| procedure == proc::INLINE && matches!(what, What::EndThread | What::Hang);
        for what in ALL.into_iter().filter(|what| !is_deadly(what)) {
            // The first has the memory that is taken once and kept: names of threads, tables of the test's own. A later
            // one may take some more, where more threads than ever were there at once, of which some were the test
            // harness's; what a fault costs is lost each time.
            let mut lost = Vec::new();
            while lost.last().is_none_or(|lost| *lost >= TIMES as isize) {
                assert!(
                    lost.len() < 20,
                    "bytes lost by {what:?} in procedure {procedure}, {TIMES} times each: {lost:?}"
                );
                a_service_with(procedure, what);
                let before = allocated();
                a_service_with(procedure, what);
                lost.push(free_again(before));
            }
        }
    }
    witness::saw_no_other_panic();
}

/// Waits a moment until no more is allocated than there was, and says how much more is.
fn free_again(before: isize) -> isize {
    let until = Instant::now() + Duration::from_secs(2);
    while allocated() > before && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    allocated() - before
}

/// A service from start to stop whose handler gets this order some times, each from a client of its own.
fn a_service_with(procedure: i32, what: What) {
    let folder = tempfile::tempdir().unwrap();
    let listen = vec![Address::Unix(folder.path().join("socket"))];
    let mut config = Config { listen, demo: false, ..Config::default() };
    config.limits.min_workers = 1;
    config.limits.max_workers = 1;
    config.limits.prio_workers = 1;
    config.limits.async_workers = 1;
    config.limits.shutdown_timeout = Duration::from_millis(500);
    config.limits.poison_after = 0;
    let shared = Shared::default();
    shared.tide.set_out(true);
    let running = Service::new(config).program(program(&shared)).start().unwrap();
    for id in 1..=TIMES {
        let mut client = Client::connect(&running.addresses()[0]);
        let args = Args { id, what: what as u8, us: 0, bytes: 1000, order: None };
        client.send(&call(FIRE, procedure, 7, &encode(&args)));
        client.packet();
    }
    let _ = running.stop();
    witness::forget_incidents();
}
