//! `postroom bench`: load on a service, and what came of it.
//!
//! Closed loop: each of CONNECTIONS × DEPTH slots makes the next call when the last one is answered. Open loop
//! (`--rate`): calls are due at fixed times, whoever is late; their latency counts from when they were due, so that a
//! service that stalls cannot hide it by holding up the load.

mod report;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Args;
use postroom_client::{CallError, Client, Procedure};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};

use super::{Exit, Remote, explain, remote};
use report::{Progress, Report};

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    remote: Remote,
    /// Connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// Calls at once on each connection.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    depth: u32,
    /// Bytes in each call, and in each reply.
    #[arg(long, value_name = "BYTES", default_value_t = 32)]
    payload: usize,
    /// For how long calls are made. With --rate those that were due by then are all made, however late.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Calls a second over all connections, at fixed times (open loop). Without it each call follows a reply.
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: Option<u32>,
    /// What is called; it takes and gives back {id, data}, as echo.echo and echo.quick do.
    #[arg(long, value_name = "PROGRAM.PROCEDURE", default_value = "echo.echo")]
    procedure: String,
    /// The result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Request<'a> {
    id: u64,
    data: &'a Bytes,
}

#[derive(Deserialize)]
struct Reply {
    id: u64,
    data: ByteBuf,
}

/// What all slots share.
struct Load {
    target: Procedure,
    data: Vec<u8>,
    report: RefCell<Report>,
    next_id: Cell<u64>,
    ends: Instant,
    /// The first error that ends the whole run: a connection that is gone.
    failure: RefCell<Option<Exit>>,
    /// The first error that a call was answered with.
    first_error: RefCell<Option<Exit>>,
}

pub(super) fn bench(args: BenchArgs) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Exit::usage(format!("no runtime can be made: {error}")))?;
    let local = tokio::task::LocalSet::new();
    let json = args.json;
    raise_descriptor_limit();
    let (report, failure) = local.block_on(&runtime, run(args))?;
    // What was measured before the end is told all the same.
    if failure.is_none() || !report.is_empty() {
        super::print(&if json { report.json() } else { report.text() })?;
    }
    failure.map_or(Ok(()), Err)
}

/// Raises the soft limit of open descriptors to the hard one, as a service does: each connection is a descriptor.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, the connection that does not fit says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// What was measured, and what is wrong with it: the run was cut short, or no call succeeded.
async fn run(args: BenchArgs) -> Result<(Report, Option<Exit>), Exit> {
    let address = args.remote.address()?;
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..args.connections {
        clients.push(remote::builder().connect(address.clone()).await?);
    }
    let first = clients.first().ok_or_else(|| Exit::usage("no connections"))?;
    let target = first.resolve(&args.procedure).await.map_err(|error| explain(&error))?;
    let started = Instant::now();
    let load = Rc::new(Load {
        target,
        data: vec![b'x'; args.payload],
        report: RefCell::new(Report::new(&args)?),
        next_id: Cell::new(0),
        ends: started + args.duration,
        failure: RefCell::default(),
        first_error: RefCell::default(),
    });
    let progress = Progress::start(args.duration, load.clone());
    match args.rate {
        None => closed_loop(&load, &clients, args.depth).await,
        Some(rate) => open_loop(&load, &clients, args.depth, rate, started).await,
    }
    let took = started.elapsed();
    progress.finish();
    let mut report = load.report.replace(Report::new(&args)?);
    report.took = took;
    let first_error = load.first_error.take().filter(|_| report.has_only_errors());
    Ok((report, load.failure.take().or(first_error)))
}

async fn closed_loop(load: &Rc<Load>, clients: &[Client], depth: u32) {
    let slots: Vec<_> = clients
        .iter()
        .flat_map(|client| std::iter::repeat_n(client, depth as usize))
        .map(|client| {
            let (client, load) = (client.clone(), load.clone());
            tokio::task::spawn_local(async move {
                loop {
                    let due = Instant::now();
                    load.call(&client, due).await;
                    // One at least, however short the time was: else there would be nothing to tell.
                    if !load.goes_on() {
                        break;
                    }
                }
            })
        })
        .collect();
    for slot in slots {
        // A slot that panicked has a defect of this program's own, which the panic has told.
        let _ = slot.await;
    }
}

/// One task makes the calls when they are due. When all CONNECTIONS × DEPTH places are taken it is late, and what it
/// then sends is measured from when it was due.
async fn open_loop(load: &Rc<Load>, clients: &[Client], depth: u32, rate: u32, started: Instant) {
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(clients.len() * depth as usize));
    let mut calls = tokio::task::JoinSet::new();
    for (index, client) in (0_u64..).zip(clients.iter().cycle()) {
        let due = started + Duration::from_nanos(index.saturating_mul(1_000_000_000) / u64::from(rate));
        // Only the time at which a call is due decides, never how late it is: calls left out because the service, or
        // this load, fell behind are the very ones whose latency would have been the longest.
        if due >= load.ends || load.failed() {
            break;
        }
        wait_until(due).await;
        let Ok(place) = places.clone().acquire_owned().await else { break };
        let (client, load) = (client.clone(), load.clone());
        calls.spawn_local(async move {
            load.call(&client, due).await;
            drop(place);
        });
        while calls.try_join_next().is_some() {}
    }
    while calls.join_next().await.is_some() {}
}

/// Timers are exact to a millisecond; the rest of the way is spent turning the loop, so that calls leave in time.
async fn wait_until(due: Instant) {
    const TIMER: Duration = Duration::from_millis(2);
    if let Some(early) = due.checked_sub(TIMER)
        && early > Instant::now()
    {
        tokio::time::sleep_until(early.into()).await;
    }
    while Instant::now() < due {
        tokio::task::yield_now().await;
    }
}

impl Load {
    fn goes_on(&self) -> bool {
        Instant::now() < self.ends && !self.failed()
    }

    fn failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    async fn call(&self, client: &Client, due: Instant) {
        let id = self.next_id.replace(self.next_id.get() + 1);
        let request = Request { id, data: Bytes::new(&self.data) };
        let reply: Result<Reply, CallError> = client.call(self.target, &request).await;
        match reply {
            Ok(reply) if reply.id != id || reply.data.len() != self.data.len() => {
                self.fail(Exit::usage(format!("call {id} got a reply that is not its own: that of call {}", reply.id)));
            }
            Ok(_) => self.report.borrow_mut().answered(due.elapsed()),
            Err(error) => match &error {
                CallError::Service(answered) => self.answered_with(answered.code().as_str(), &error),
                CallError::Deadline(_) => self.answered_with("deadline_exceeded", &error),
                _ => self.fail(explain(&error)),
            },
        }
    }

    fn answered_with(&self, code: &str, error: &CallError) {
        self.report.borrow_mut().failed(code);
        self.first_error.borrow_mut().get_or_insert_with(|| explain(error));
    }

    fn fail(&self, exit: Exit) {
        self.failure.borrow_mut().get_or_insert(exit);
    }
}
