//! What has been answered in the time that counts, and what it cost.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::Plan;
use crate::Result;
use crate::usage::{Snapshot, Usage, resident};

/// The longest latency that is told apart from longer ones, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;
/// The percentiles that are kept of each run.
pub const PERCENTILES: [f64; 9] = [10.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99];

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Measured {
    pub calls_per_second: f64,
    /// In microseconds, one for each of [`PERCENTILES`].
    pub latencies: Vec<f64>,
    pub longest: f64,
    /// Processor time of the server and of the client, in seconds for a million calls.
    pub server_cpu: f64,
    pub client_cpu: f64,
    /// Resident memory of the server at the end, in KiB.
    pub server_kib: u64,
    /// Processors that others used.
    pub foreign_cpus: f64,
}

impl Measured {
    /// The latency of this percentile, in microseconds.
    pub fn latency(&self, percentile: f64) -> Option<f64> {
        let at = PERCENTILES.iter().position(|kept| *kept == percentile)?;
        self.latencies.get(at).copied()
    }
}

pub fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(100, LONGEST, 3)?)
}

/// The time that counts has begun.
pub struct Window(Snapshot);

impl Window {
    pub fn begin(plan: &Plan) -> Result<Self> {
        Ok(Self(Snapshot::take(&plan.servers)?))
    }

    /// The time that counts is over.
    pub fn over(self, plan: &Plan) -> Result<Over> {
        let usage = Snapshot::take(&plan.servers)?.since(&self.0);
        Ok(Over { usage, server_kib: resident(&plan.servers)? })
    }
}

/// What the time that counts has cost.
pub struct Over {
    usage: Usage,
    server_kib: u64,
}

impl Over {
    pub fn measured(self, latencies: &Histogram<u64>) -> Result<Measured> {
        if latencies.is_empty() {
            return Err("no call was answered".into());
        }
        let n_calls = latencies.len() as f64;
        let micros = |nanos: u64| nanos as f64 / 1e3;
        Ok(Measured {
            calls_per_second: n_calls / self.usage.seconds,
            latencies: PERCENTILES.map(|kept| micros(latencies.value_at_percentile(kept))).to_vec(),
            longest: micros(latencies.max()),
            server_cpu: self.usage.servers * 1e6 / n_calls,
            client_cpu: self.usage.own * 1e6 / n_calls,
            server_kib: self.server_kib,
            foreign_cpus: (self.usage.foreign / self.usage.seconds).max(0.0),
        })
    }
}

/// What the slots of one thread share.
#[derive(Clone)]
pub struct Tally(Rc<Shared>);

struct Shared {
    counts: Cell<bool>,
    is_over: Cell<bool>,
    /// In nanoseconds.
    latencies: RefCell<Histogram<u64>>,
}

impl Tally {
    pub fn new() -> Result<Self> {
        let latencies = RefCell::new(histogram()?);
        Ok(Self(Rc::new(Shared { counts: Cell::new(false), is_over: Cell::new(false), latencies })))
    }

    pub fn begin(&self, plan: &Plan) -> Result<Window> {
        let window = Window::begin(plan)?;
        self.0.counts.set(true);
        Ok(window)
    }

    pub fn end(&self, plan: &Plan, window: Window) -> Result<Measured> {
        self.0.counts.set(false);
        self.0.is_over.set(true);
        window.over(plan)?.measured(&self.0.latencies.borrow())
    }

    #[inline]
    pub fn is_over(&self) -> bool {
        self.0.is_over.get()
    }

    #[inline]
    pub fn answered(&self, sent: Instant, now: Instant) {
        if self.0.counts.get() {
            let nanos = now.saturating_duration_since(sent).as_nanos() as u64;
            self.0.latencies.borrow_mut().saturating_record(nanos);
        }
    }
}
