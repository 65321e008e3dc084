//! What a run has measured, as text and as JSON, and the progress bar while it runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::{BenchArgs, Load};
use crate::cli::Exit;

/// The longest latency that is told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(600);
const PERCENTILES: [(&str, f64); 5] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("max", 100.0)];

/// What a run has measured.
pub(super) struct Report {
    /// Latencies of answered calls in nanoseconds.
    latencies: Histogram<u64>,
    errors: BTreeMap<String, u64>,
    pub(super) took: Duration,
    connections: u32,
    depth: u32,
    payload: usize,
    rate: Option<u32>,
    procedure: String,
}

impl Report {
    pub(super) fn new(args: &BenchArgs) -> Result<Self, Exit> {
        let latencies = Histogram::new_with_bounds(100, LONGEST.as_nanos() as u64, 3);
        Ok(Self {
            latencies: latencies.map_err(|error| Exit::usage(error.to_string()))?,
            errors: BTreeMap::new(),
            took: args.duration,
            connections: args.connections,
            depth: args.depth,
            payload: args.payload,
            rate: args.rate,
            procedure: args.procedure.clone(),
        })
    }

    pub(super) fn answered(&mut self, latency: Duration) {
        self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn failed(&mut self, code: &str) {
        *self.errors.entry(code.to_owned()).or_default() += 1;
    }

    /// Whether no call was answered at all.
    pub(super) fn is_empty(&self) -> bool {
        self.latencies.is_empty() && self.errors.is_empty()
    }

    /// Whether every call that was answered was answered with an error.
    pub(super) fn has_only_errors(&self) -> bool {
        self.latencies.is_empty() && !self.errors.is_empty()
    }

    fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    pub(super) fn json(&self) -> String {
        let micros = |percentile: f64| self.latencies.value_at_percentile(percentile) as f64 / 1000.0;
        let latency: serde_json::Map<_, _> =
            PERCENTILES.iter().map(|(name, percentile)| ((*name).to_owned(), micros(*percentile).into())).collect();
        let histogram: Vec<_> =
            self.buckets().into_iter().map(|(to, count)| json!({ "up_to_us": to / 1000.0, "calls": count })).collect();
        json!({
            "procedure": self.procedure,
            "connections": self.connections,
            "depth": self.depth,
            "payload_bytes": self.payload,
            "rate": self.rate,
            "seconds": self.took.as_secs_f64(),
            "calls": self.latencies.len(),
            "calls_per_second": self.per_second(),
            "errors": self.errors,
            "latency_us": latency,
            "histogram": histogram,
        })
        .to_string()
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let load = match self.rate {
            None => "closed loop".to_owned(),
            Some(rate) => format!("open loop at {rate} calls/s"),
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{} with {} bytes, {} connections × {} calls, {load}, {:.1} s",
            self.procedure,
            self.payload,
            self.connections,
            self.depth,
            self.took.as_secs_f64()
        );
        let _ = writeln!(out, "\n{:.0} calls/s ({} calls)", self.per_second(), self.latencies.len());
        for (code, count) in &self.errors {
            let _ = writeln!(out, "{count} answered with {code}");
        }
        if self.latencies.is_empty() {
            return out;
        }
        let since = if self.rate.is_some() { ", from when the call was due" } else { "" };
        let _ = writeln!(out, "\nlatency{since}");
        for (name, percentile) in PERCENTILES {
            let _ = writeln!(out, "  {name:>5}  {:>10}", time(self.latencies.value_at_percentile(percentile) as f64));
        }
        let buckets = self.buckets();
        let most = buckets.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
        let _ = writeln!(out, "\n  {:>10}  calls", "up to");
        for (to, count) in buckets {
            let width = (count * 50).div_ceil(most) as usize;
            let _ = writeln!(out, "  {:>10}  {:<50} {count}", time(to), "#".repeat(width));
        }
        out
    }

    /// The histogram in steps of a factor of the square root of two, from the first to the last that has calls.
    fn buckets(&self) -> Vec<(f64, u64)> {
        let (low, high) = (self.latencies.min().max(1) as f64, self.latencies.max().max(1) as f64);
        let step = std::f64::consts::SQRT_2;
        let mut to = step.powf(low.log(step).ceil());
        let mut from = 0;
        let mut buckets = Vec::new();
        loop {
            let end = to as u64;
            buckets.push((to, self.latencies.count_between(from, end)));
            if to >= high {
                return buckets;
            }
            from = end + 1;
            to *= step;
        }
    }
}

fn time(nanos: f64) -> String {
    match nanos {
        _ if nanos < 1e3 => format!("{nanos:.0} ns"),
        _ if nanos < 1e6 => format!("{:.1} µs", nanos / 1e3),
        _ if nanos < 1e9 => format!("{:.1} ms", nanos / 1e6),
        _ => format!("{:.2} s", nanos / 1e9),
    }
}

/// A bar on standard error, if that is a terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    task: tokio::task::JoinHandle<()>,
}

impl Progress {
    pub(super) fn start(duration: Duration, load: Rc<Load>) -> Self {
        let total = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {msg}") {
            bar.set_style(style);
        }
        let shown = bar.clone();
        let started = Instant::now();
        let task = tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let elapsed = started.elapsed();
                let calls = load.report.borrow().latencies.len();
                shown.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
                shown.set_message(format!("{:.0} calls/s", calls as f64 / elapsed.as_secs_f64()));
            }
        });
        Self { bar, task }
    }

    pub(super) fn finish(self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}
