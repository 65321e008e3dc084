//! Postroom's event loop against a bare epoll loop and against libvirt's own, with 10, 1,000 and 100,000 watches:
//! dispatches a second, the cost of operations, how late timers are.
//!
//! `cargo run --release`, or `cargo run --release --features libvirt` where libvirt-dev is installed. Prints one Markdown
//! table, in under two minutes. All subjects are measured in turns within one run, several rounds each, and the median
//! counts, because on a machine that others use only ratios mean something.
//!
//! Every subject keeps what it has and grows to the next number, because libvirt's loop is one per process. A watch is a
//! closure (for libvirt a C function) that adds one to a counter. Ten descriptors are always ready, with one watch each;
//! the other watches share at most 4,000 descriptors that never are. The bare loop is what one would write for one
//! purpose: no lock, no other threads, nothing is removed in callbacks.

mod subject;

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, getrlimit, setrlimit};
use subject::Subject;

const SIZES: [usize; 3] = [10, 1000, 100_000];
const N_READY: usize = 10;
const N_DESCRIPTORS: usize = 4000;
const ROUNDS: usize = 5;
const DISPATCHING: Duration = Duration::from_millis(200);
const N_OPERATIONS: usize = 300;
const N_TICKS: usize = 20;
const PERIOD: Duration = Duration::from_millis(3);

const ROWS: [&str; 6] = [
    "dispatches a second",
    "add, ns",
    "update, ns",
    "remove, ns",
    "timer late by, median, µs",
    "timer late by, 90th of 100, µs",
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
}

impl Contender {
    fn new(mut subject: Box<dyn Subject>) -> Contender {
        let count = Arc::new(AtomicU64::new(0));
        let ready: Vec<OwnedFd> = (0..N_READY).map(|_| eventfd(1, EventfdFlags::NONBLOCK).unwrap()).collect();
        for fd in &ready {
            subject.add_handle(fd.as_raw_fd(), &count);
        }
        Contender { subject, count, n_watches: N_READY, ready, idle: Vec::new() }
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

    fn idle_fd(&self, n: usize) -> RawFd {
        self.idle.get(n % self.idle.len().max(1)).unwrap_or(&self.ready[0]).as_raw_fd()
    }

    /// In the order of `ROWS`.
    fn measure(&mut self) -> [f64; ROWS.len()] {
        self.subject.iterate();
        let (start, before) = (Instant::now(), self.count.load(Ordering::Relaxed));
        while start.elapsed() < DISPATCHING {
            self.subject.iterate();
        }
        let n_dispatched = self.count.load(Ordering::Relaxed) - before;
        let per_second = n_dispatched as f64 / start.elapsed().as_secs_f64();

        let start = Instant::now();
        let added: Vec<u64> =
            (0..N_OPERATIONS).map(|n| self.subject.add_handle(self.idle_fd(n * 7), &self.count)).collect();
        let add = nanos_each(start);
        let start = Instant::now();
        added.iter().for_each(|id| self.subject.update_handle(*id));
        let update = nanos_each(start);
        let start = Instant::now();
        added.iter().for_each(|id| self.subject.remove_handle(*id));
        let remove = nanos_each(start);
        self.subject.iterate();

        // What is always ready would hide how the loop sleeps.
        self.ready.iter().for_each(|fd| assert!(rustix::io::read(fd, &mut [0; 8]).is_ok()));
        let mut late: Vec<f64> = self.subject.ticks(PERIOD, N_TICKS).iter().map(|late| late * 1e6).collect();
        self.ready.iter().for_each(|fd| assert!(rustix::io::write(fd, &1_u64.to_ne_bytes()).is_ok()));
        let middle = median(&mut late);
        [per_second, add, update, remove, middle, late[late.len() * 9 / 10]]
    }
}

fn nanos_each(start: Instant) -> f64 {
    start.elapsed().as_nanos() as f64 / N_OPERATIONS as f64
}
