//! One measurement: a fresh server, a warm-up, and a time in which everything is counted.

use std::path::Path;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::contender::{Contender, Threads};
use crate::load::Load;
use crate::server::Server;
use crate::usage::Snapshot;
use crate::{Result, Shape};

const WARM_UP: Duration = Duration::from_millis(300);
const TIME: Duration = Duration::from_secs(1);
/// A measurement that takes longer has failed.
const LONGEST: Duration = Duration::from_secs(20);
/// Processors that others use, beyond which a measurement is disturbed.
const DISTURBED: f64 = 0.2;
/// How many times a disturbed one is repeated.
const N_REPEATS: usize = 2;

pub struct Measured {
    pub calls_per_second: f64,
    /// The median and the 99th percentile, in microseconds.
    pub p50: f64,
    pub p99: f64,
    /// Processor time of the server, in seconds for a million calls.
    pub server_cpu: f64,
    /// Processors that others used.
    foreign: f64,
}

impl Measured {
    pub fn is_disturbed(&self) -> bool {
        self.foreign > DISTURBED
    }
}

/// Measures, and again if it was disturbed; the least disturbed counts.
pub fn measure(contender: Contender, shape: Shape, path: &Path) -> Result<Measured> {
    let mut best = measure_once(contender, shape, path)?;
    for _ in 0..N_REPEATS {
        if !best.is_disturbed() {
            break;
        }
        let again = measure_once(contender, shape, path)?;
        if again.foreign < best.foreign {
            best = again;
        }
    }
    Ok(best)
}

fn measure_once(contender: Contender, shape: Shape, path: &Path) -> Result<Measured> {
    let server = Server::start(contender, path)?;
    let run = async { timeout(LONGEST, load(contender, shape, path, server.pid())).await };
    // The runtime ends with this, and all connections with it.
    Threads::One.runtime()?.block_on(run)?
}

async fn load(contender: Contender, shape: Shape, path: &Path, server: u32) -> Result<Measured> {
    let mut load = Load::new()?;
    contender.call(path, shape, &mut load).await?;
    let tally = load.tally();
    sleep(WARM_UP).await;
    let before = Snapshot::take(server)?;
    tally.count(true);
    sleep(TIME).await;
    tally.count(false);
    let usage = Snapshot::take(server)?.since(&before);
    load.end().await?;

    let latencies = tally.latencies();
    let n_calls = latencies.len() as f64;
    if latencies.is_empty() {
        return Err("no call was answered".into());
    }
    let micros = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Measured {
        calls_per_second: n_calls / usage.seconds,
        p50: micros(0.5),
        p99: micros(0.99),
        server_cpu: usage.server * 1e6 / n_calls,
        foreign: usage.foreign / usage.seconds,
    })
}
