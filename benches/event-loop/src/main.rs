//! Postroom's event loop against a bare epoll loop and against libvirt's own, with 10, 1,000 and 100,000 watches:
//! dispatches a second, the cost of operations, how late timers are.
//!
//! `cargo run --release`, or `cargo run --release --features libvirt` where libvirt-dev is installed. Prints one Markdown
//! table, in about two minutes. All subjects are measured in turns within one run, several rounds each, and the median
//! counts, because on a machine that others use only ratios mean something.
//!
//! Every subject keeps what it has and grows to the next number, because libvirt's loop is one per process. A watch is a
//! closure (for libvirt a C function) that adds one to a counter. Ten descriptors are always ready, with one watch each:
//! the first row is what the loops themselves cost, and no callback does anything. The other watches share at most 4,000
//! descriptors that never are ready. Busy pipes are further ones, a thousand or as many as there are watches: each has a
//! byte, which its callback reads and writes back, as the least that a program does with what is ready. Operations are
//! on 300 descriptors that have no other watch, the same at every size. The bare loop is what one would write for one
//! purpose: no lock, no other threads, nothing is removed in callbacks.

mod subject;

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, getrlimit, setrlimit};
use subject::{Pipe, Subject};

const SIZES: [usize; 3] = [10, 1000, 100_000];
const N_READY: usize = 10;
const N_DESCRIPTORS: usize = 4000;
const ROUNDS: usize = 5;
const DISPATCHING: Duration = Duration::from_millis(200);
const N_OPERATIONS: usize = 300;
const N_PIPES: usize = 1000;
const N_TICKS: usize = 100;
const PERIOD: Duration = Duration::from_millis(10);

const ROWS: [&str; 7] = [
    "dispatches a second",
    "dispatches a second, busy pipes",
    "add, ns",
    "update, ns",
    "remove, ns",
    "timer late by, median, µs",
    "timer late by, 99th of 100, µs",
];

fn main() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);

    let mut contenders: Vec<Contender> = subject::all().into_iter().map(Contender::new).collect();
    let names: Vec<&str> = contenders.iter().map(|contender| contender.subject.name()).collect();
    println!("| watches | what | {} | ratios to {} |", names.join(" | "), names[0]);
    println!("|---|---|{}", "---|".repeat(names.len() + 1));
    for size in SIZES {
        contenders.iter_mut().for_each(|contender| contender.grow_to(size));
        let mut measured = vec![vec![Vec::new(); contenders.len()]; ROWS.len()];
        for _ in 0..ROUNDS {
            for (at, contender) in contenders.iter_mut().enumerate() {
                for (row, value) in contender.measure().into_iter().enumerate() {
                    measured[row][at].push(value);
                }
            }
        }
        for (row, what) in ROWS.iter().enumerate() {
            let medians: Vec<f64> = measured[row].iter_mut().map(|values| median(values)).collect();
            let values: Vec<String> = medians.iter().map(|value| format!("{value:.0}")).collect();
            let ratios: Vec<String> = medians[1..].iter().map(|value| format!("{:.2}", value / medians[0])).collect();
            println!("| {size} | {what} | {} | {} |", values.join(" | "), ratios.join(", "));
        }
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A subject, with what it watches.
struct Contender {
    subject: Box<dyn Subject>,
    count: Arc<AtomicU64>,
    n_watches: usize,
    ready: Vec<OwnedFd>,
    idle: Vec<OwnedFd>,
    /// For the operations that are measured.
    spare: Vec<OwnedFd>,
    pipes: Vec<Arc<Pipe>>,
}

impl Contender {
    fn new(mut subject: Box<dyn Subject>) -> Contender {
        let count = Arc::new(AtomicU64::new(0));
        let events = |value, n: usize| (0..n).map(|_| eventfd(value, EventfdFlags::NONBLOCK).unwrap()).collect();
        let ready: Vec<OwnedFd> = events(1, N_READY);
        for fd in &ready {
            subject.add_handle(fd.as_raw_fd(), &count);
        }
        let pipes = (0..N_PIPES).map(|_| Arc::new(Pipe::new(&count))).collect();
        let spare = events(0, N_OPERATIONS);
        Contender { subject, count, n_watches: N_READY, ready, idle: Vec::new(), spare, pipes }
    }

    fn grow_to(&mut self, n_watches: usize) {
        for n in self.n_watches..n_watches {
            if self.idle.len() < N_DESCRIPTORS {
                self.idle.push(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
            }
            self.subject.add_handle(self.idle[n % self.idle.len()].as_raw_fd(), &self.count);
        }
        self.n_watches = n_watches;
    }

    fn dispatch(&mut self) -> f64 {
        self.subject.iterate();
        let (start, before) = (Instant::now(), self.count.load(Ordering::Relaxed));
        while start.elapsed() < DISPATCHING {
            self.subject.iterate();
        }
        let n_dispatched = self.count.load(Ordering::Relaxed) - before;
        n_dispatched as f64 / start.elapsed().as_secs_f64()
    }

    /// In the order of `ROWS`.
    fn measure(&mut self) -> [f64; ROWS.len()] {
        let per_second = self.dispatch();

        let start = Instant::now();
        let added: Vec<u64> =
            self.spare.iter().map(|fd| self.subject.add_handle(fd.as_raw_fd(), &self.count)).collect();
        let add = nanos_each(start);
        let start = Instant::now();
        added.iter().for_each(|id| self.subject.update_handle(*id));
        let update = nanos_each(start);
        let start = Instant::now();
        added.iter().for_each(|id| self.subject.remove_handle(*id));
        let remove = nanos_each(start);
        self.subject.iterate();

        // What is always ready would hide how the loop sleeps, and what the pipes cost.
        self.ready.iter().for_each(|fd| assert!(rustix::io::read(fd, &mut [0; 8]).is_ok()));
        let mut late: Vec<f64> = self.subject.ticks(PERIOD, N_TICKS).iter().map(|late| late * 1e6).collect();
        let pipes: Vec<u64> =
            self.pipes[..N_PIPES.min(self.n_watches)].iter().map(|pipe| self.subject.add_pipe(pipe)).collect();
        let through_pipes = self.dispatch();
        pipes.into_iter().for_each(|id| self.subject.remove_handle(id));
        self.ready.iter().for_each(|fd| assert!(rustix::io::write(fd, &1_u64.to_ne_bytes()).is_ok()));
        self.subject.iterate();
        let middle = median(&mut late);
        [per_second, through_pipes, add, update, remove, middle, late[late.len() * 99 / 100 - 1]]
    }
}

fn nanos_each(start: Instant) -> f64 {
    start.elapsed().as_nanos() as f64 / N_OPERATIONS as f64
}
