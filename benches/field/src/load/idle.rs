//! What idle clients cost the server: its memory before they came, when they are connected, and after a call of each.

use std::time::Duration;

use tokio::time::sleep;

use super::{Memory, Outcome, Plan};
use crate::Result;
use crate::usage::resident;

/// What the server has to allocate once is allocated by so many calls of one client.
const WARM_UP: usize = 200;
/// How often it is asked whether the memory has come to rest, and how many times at most.
const PERIOD: Duration = Duration::from_millis(150);
const PATIENCE: usize = 20;

/// The memory so far, in KiB.
pub struct Idle {
    before: u64,
    connected: u64,
}

impl Idle {
    pub async fn warm_up(mut call: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        for _ in 0..WARM_UP {
            call().await?;
        }
        Ok(())
    }

    pub async fn begin(plan: &Plan) -> Result<Self> {
        Ok(Self { before: at_rest(plan).await?, connected: 0 })
    }

    pub async fn connected(self, plan: &Plan) -> Result<Self> {
        Ok(Self { connected: at_rest(plan).await?, ..self })
    }

    pub async fn end(self, plan: &Plan, n_clients: usize) -> Result<Outcome> {
        let each = |now: u64| (now as f64 - self.before as f64) / n_clients as f64;
        let after = at_rest(plan).await?;
        Ok(Outcome::Idle(Memory { connected_kib: each(self.connected), after_one_call_kib: each(after) }))
    }
}

/// The memory once it is the same twice in a row; that of a server that goes on allocating is what it is.
async fn at_rest(plan: &Plan) -> Result<u64> {
    let mut last = 0;
    for _ in 0..PATIENCE {
        sleep(PERIOD).await;
        let now = resident(&plan.servers)?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}
