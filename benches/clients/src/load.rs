//! The closed loop of the client, and what it counts. The client has one thread, so nobody waits for the lock.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::Result;

/// What each call carries there and back.
pub static PAYLOAD: [u8; 32] = [b'x'; 32];
/// The longest latency that is told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(60);

/// A client's connection; clones share it.
pub trait Caller: Clone + Send + Sync + 'static {
    /// One call, and whether the reply is its own.
    fn call(&self, id: u64) -> impl Future<Output = Result<bool>> + Send;
}

/// The calls of all connections.
pub struct Load {
    tally: Arc<Tally>,
    tasks: JoinSet<Result<()>>,
    n_slots: u64,
}

impl Load {
    pub fn new() -> Result<Self> {
        let latencies = Mutex::new(Histogram::new_with_bounds(100, LONGEST.as_nanos() as u64, 3)?);
        let tally = Tally { counts: AtomicBool::new(false), is_over: AtomicBool::new(false), latencies };
        Ok(Self { tally: Arc::new(tally), tasks: JoinSet::new(), n_slots: 0 })
    }

    pub fn tally(&self) -> Arc<Tally> {
        self.tally.clone()
    }

    pub fn spawn(&mut self, calls: impl Future<Output = Result<()>> + Send + 'static) {
        self.tasks.spawn(calls);
    }

    /// So many slots on one connection.
    pub fn add(&mut self, caller: impl Caller, depth: usize) {
        for _ in 0..depth {
            // Numbers of different slots are never the same.
            let first_id = self.n_slots << 32;
            self.n_slots += 1;
            self.spawn(slot(caller.clone(), first_id, self.tally()));
        }
    }

    /// Waits for the last replies. An error of any call is one of the whole load.
    pub async fn end(mut self) -> Result<()> {
        self.tally.is_over.store(true, Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

async fn slot(caller: impl Caller, first_id: u64, tally: Arc<Tally>) -> Result<()> {
    for id in first_id.. {
        if tally.is_over() {
            break;
        }
        let start = Instant::now();
        if !caller.call(id).await? {
            return Err(format!("call {id} got a reply that is not its own").into());
        }
        tally.answered(start);
    }
    Ok(())
}

/// What has been answered while it counted.
pub struct Tally {
    counts: AtomicBool,
    is_over: AtomicBool,
    /// In nanoseconds.
    latencies: Mutex<Histogram<u64>>,
}

impl Tally {
    pub fn count(&self, counts: bool) {
        self.counts.store(counts, Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    pub fn answered(&self, start: Instant) {
        if self.counts.load(Relaxed) {
            let nanos = start.elapsed().as_nanos() as u64;
            self.latencies.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(nanos);
        }
    }

    pub fn latencies(&self) -> Histogram<u64> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
