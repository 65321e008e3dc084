//! One future for each call, on one thread.

use std::future::Future;
use std::time::Instant;

use bytes::Bytes;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::sleep;

use super::idle::Idle;
use super::{Outcome, Plan, Tally, check_len};
use crate::Result;
use crate::case::Case;

/// A client's connection; clones share it.
pub trait Caller: Clone + 'static {
    /// One call: the number and the length of the bytes that came back.
    fn call(&self, id: u64, data: &Bytes) -> impl Future<Output = Result<(u64, usize)>>;
}

/// Connects as often as the plan says, and calls.
pub fn run<C: Caller, F: Future<Output = Result<C>>>(plan: &Plan, connect: impl Fn() -> F) -> Result<Outcome> {
    let data = Bytes::from(plan.payload());
    match plan.case {
        Case::Idle(n_clients) => on_one_thread(async {
            let call = async |caller: &C| checked(caller, 1, &data).await;
            let first = connect().await?;
            Idle::warm_up(async || call(&first).await).await?;
            let idle = Idle::begin(plan).await?;
            let mut callers = Vec::with_capacity(n_clients);
            for _ in 0..n_clients {
                callers.push(connect().await?);
            }
            let idle = idle.connected(plan).await?;
            for caller in &callers {
                call(caller).await?;
            }
            idle.end(plan, n_clients).await
        }),
        Case::Load(shape) => drive(plan, async |tally, tasks| {
            let mut callers = Vec::new();
            for _ in 0..shape.connections {
                callers.push(connect().await?);
            }
            for (n, caller) in callers.iter().enumerate() {
                for slot in 0..shape.depth {
                    // Numbers of different slots are never the same.
                    let first_id = ((n * shape.depth + slot) as u64) << 32;
                    tasks.spawn_local(self::slot(caller.clone(), first_id, data.clone(), tally.clone()));
                }
            }
            Ok(())
        }),
    }
}

/// The load of tasks that `start` starts, for as long as the plan says.
pub fn drive(plan: &Plan, start: impl AsyncFnOnce(&Tally, &mut JoinSet<Result<()>>) -> Result<()>) -> Result<Outcome> {
    on_one_thread(async {
        let tally = Tally::new()?;
        let mut tasks = JoinSet::new();
        start(&tally, &mut tasks).await?;
        let measured = async {
            sleep(plan.warm_up).await;
            let window = tally.begin(plan)?;
            sleep(plan.time).await;
            tally.end(plan, window)
        };
        tokio::select! {
            biased;
            measured = measured => Ok(Outcome::Load(measured?)),
            // A slot ends before the time is over only with an error.
            Some(ended) = tasks.join_next() => {
                ended??;
                Err("a slot has ended too early".into())
            }
        }
    })
}

pub fn on_one_thread<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

async fn slot(caller: impl Caller, first_id: u64, data: Bytes, tally: Tally) -> Result<()> {
    // One look at the clock for each call: the next is made when this one is answered.
    let mut sent = Instant::now();
    for id in first_id.. {
        checked(&caller, id, &data).await?;
        let now = Instant::now();
        tally.answered(std::mem::replace(&mut sent, now), now);
        if tally.is_over() {
            break;
        }
    }
    Ok(())
}

async fn checked(caller: &impl Caller, id: u64, data: &Bytes) -> Result<()> {
    let (same_id, len) = caller.call(id, data).await?;
    if same_id != id {
        return Err(format!("call {id} got the reply of {same_id}").into());
    }
    check_len(len, data.len())
}
