//! Goodput under overload: calls answered in time, by load, with and without `queue_target`.
//!
//! The load is open: calls come at fixed times, whatever becomes of them, each of use for [`DEADLINE`]. The service has
//! two workers that take 2 ms for each call, so its capacity is known. Prints a table, and draws it into the file that
//! is named: `cargo run --release -- overload.svg`.

mod plot;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use postroom::client::{Client, Connector};
use postroom::{Config, Limits, Service};
use serde::Serialize;
use tokio::time::Instant;

/// How long a call is of use.
const DEADLINE: Duration = Duration::from_millis(100);
/// How long each load lasts.
const TIME: Duration = Duration::from_secs(4);
/// Calls a second that the workers can do: two of them, 2 ms each, and the time that a thread takes to wake up.
const CAPACITY: f64 = 1000.0;
const CONNECTIONS: usize = 16;
/// The loads, as multiples of the capacity.
const LOADS: [f64; 9] = [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0];

#[derive(Serialize)]
struct Block {
    ms: u64,
}

/// What became of the calls of one load, each second.
struct Outcome {
    load: f64,
    in_time: f64,
    shed: f64,
    late: f64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let with = curve(Duration::from_millis(10)).await?;
    let without = curve(Duration::ZERO).await?;
    println!("| load | with `queue_target`: in time | shed | late | without: in time | late |");
    println!("|---|---|---|---|---|---|");
    for (with, without) in with.iter().zip(&without) {
        let Outcome { load, in_time, shed, late } = with;
        println!("| {load:.2} | {in_time:.0} | {shed:.0} | {late:.0} | {:.0} | {:.0} |", without.in_time, without.late);
    }
    let points = |curve: &[Outcome]| curve.iter().map(|outcome| (outcome.load, outcome.in_time)).collect::<Vec<_>>();
    let peak = with.iter().chain(&without).map(|outcome| outcome.in_time).fold(0.0, f64::max);
    let last = |curve: &[Outcome]| curve.last().map_or(0.0, |outcome| 100.0 * outcome.in_time / peak);
    println!("\nat three times the capacity: {:.0} % of the peak with, {:.0} % without", last(&with), last(&without));
    if let Some(file) = std::env::args().nth(1) {
        std::fs::write(file, plot::draw(&points(&with), &points(&without)))?;
    }
    Ok(())
}

/// One service, and every load on it.
async fn curve(queue_target: Duration) -> Result<Vec<Outcome>, Box<dyn Error>> {
    let limits = Limits { min_workers: 2, max_workers: 2, queue_target, ..Limits::default() };
    let running = Service::new(Config { limits, ..Config::default() }).start()?;
    let connector = running.connector("overload");
    let mut outcomes = Vec::new();
    for load in LOADS {
        outcomes.push(offer(&connector, load).await?);
    }
    tokio::task::spawn_blocking(move || running.stop()).await?;
    Ok(outcomes)
}

async fn offer(connector: &Connector, load: f64) -> Result<Outcome, Box<dyn Error>> {
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(connector.builder().connect("local:overload").await?);
    }
    let [in_time, shed, late] = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
    let every = TIME.mul_f64(1.0 / (load * CAPACITY * TIME.as_secs_f64()));
    let start = Instant::now();
    let mut calls = Vec::new();
    for n in 0.. {
        let due = start + every.mul_f64(f64::from(n));
        if due >= start + TIME {
            break;
        }
        tokio::time::sleep_until(due).await;
        let client = clients[n as usize % CONNECTIONS].clone();
        let (in_time, shed, late) = (in_time.clone(), shed.clone(), late.clone());
        calls.push(tokio::spawn(async move {
            let call = client.request("echo.block").args(&Block { ms: 2 }).deadline(DEADLINE).send::<()>();
            let outcome = match call.await {
                Ok(()) if due.elapsed() <= DEADLINE => in_time,
                Err(error) if error.code().is_some_and(|code| code.as_str() == "overloaded") => shed,
                _ => late,
            };
            outcome.fetch_add(1, Relaxed);
        }));
    }
    for call in calls {
        call.await?;
    }
    let rate = |count: Arc<AtomicU64>| count.load(Relaxed) as f64 / TIME.as_secs_f64();
    Ok(Outcome { load, in_time: rate(in_time), shed: rate(shed), late: rate(late) })
}
