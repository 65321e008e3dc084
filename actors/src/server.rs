//! The assembly: starts the actors of a service, each on its arbiter, and stops and joins them.
//!
//! ```text
//! control thread  System, listener, event loop
//! io 0 … n        a hub each, with its readers and inline handlers; on the first also the pool actor
//! worker 0 … n    a worker each, with its handlers
//! async 0 … n     an async worker each, with its handlers
//! ```
//!
//! Nothing is process-wide: two services in one process have two control threads. Stopping goes the way calls come:
//! no more clients, then no more calls, then replies, then threads.

use std::io;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix::{Actor, Addr, Message};
use actix_rt::{Arbiter, System};
use postroom_protocol::Address;
use tokio::sync::mpsc;

use crate::event_loop::{Driver, EventLoop};
use crate::hub::{Cut, Drain, Finish, Hub, Hubs};
use crate::limits::{LimitErrors, Limits};
use crate::listener::bind::{self, BindError, Bound, UnixAccess};
use crate::listener::census::Census;
use crate::listener::entrance::Entrance;
use crate::listener::{self, Close, End, Listener};
use crate::local::Local;
use crate::pool::Pool;
use crate::pool::handover::Handover;
use crate::program::Program;
use crate::program::registry::{ProgramErrors, Registry};
use crate::stats::{self, Stats};
use crate::timer;
use crate::worker::Worker;
use crate::worker::asynchronous::AsyncWorker;

/// How long clients may take, once their last call is answered, to read that and to end their connection.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the threads of handlers that do not return are waited for, when everything else has ended.
const JOIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What a service is made of.
#[derive(Debug, Default)]
pub struct Parts {
    /// Its limits.
    pub limits: Limits,
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// Who may connect to its Unix sockets.
    pub unix_access: UnixAccess,
    /// What it serves.
    pub programs: Vec<Program>,
    /// What its statistics will be read from.
    pub stats: stats::Source,
}

/// Why a service does not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// Limits are out of their range.
    Limits(LimitErrors),
    /// The programs contradict each other.
    Programs(ProgramErrors),
    /// It cannot listen at an address.
    Bind(BindError),
    /// The event loop cannot be made: the process has no descriptors left.
    EventLoop(io::Error),
    /// A thread cannot be started.
    Thread {
        /// What the thread was for.
        name: String,
        /// Why.
        cause: io::Error,
    },
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Limits(errors) => write!(f, "{errors}"),
            Self::Programs(errors) => write!(f, "{errors}"),
            Self::Bind(error) => write!(f, "{error}"),
            Self::EventLoop(cause) => write!(f, "cannot make the event loop: {cause}"),
            Self::Thread { name, cause } => write!(f, "cannot start the thread {name}: {cause}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<LimitErrors> for StartError {
    fn from(errors: LimitErrors) -> Self {
        Self::Limits(errors)
    }
}

impl From<ProgramErrors> for StartError {
    fn from(errors: ProgramErrors) -> Self {
        Self::Programs(errors)
    }
}

impl From<BindError> for StartError {
    fn from(error: BindError) -> Self {
        Self::Bind(error)
    }
}

/// What was left when a service stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Calls that did not finish within `shutdown_timeout` and were answered `shutting_down`.
    pub cut_calls: usize,
    /// Clients that had not read what was for them two seconds later, and were cut.
    pub cut_clients: usize,
    /// Threads whose handler did not return. They are abandoned: they end with the process, or when the handler does.
    pub abandoned_threads: Vec<String>,
}

impl Report {
    /// Whether every accepted call was answered and every thread joined.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

/// A service that runs.
///
/// Dropping it stops the service, as [`Running::stop`] does.
#[derive(Debug)]
pub struct Running {
    addresses: Vec<Address>,
    local: Local,
    events: EventLoop,
    stats: Arc<stats::Parts>,
    stopper: Stopper,
    control: Option<JoinHandle<Report>>,
}

/// Stops a service from elsewhere: another thread, a signal handler's task.
#[derive(Clone, Debug)]
pub struct Stopper(mpsc::Sender<()>);

impl Stopper {
    /// Asks the service to stop, and returns at once. Asking twice is harmless.
    pub fn stop(&self) {
        // A full channel has been asked already, a closed one has stopped.
        let _ = self.0.try_send(());
    }
}

impl Running {
    /// Starts a service: binds its sockets, starts its threads, and returns when it accepts clients.
    ///
    /// # Errors
    ///
    /// See [`StartError`]; nothing is left running then.
    pub fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts { limits, addresses, unix_access, programs, stats } = parts;
        limits.check()?;
        let registry = Arc::new(Registry::new(programs)?);
        if let Some(descriptors) = listener::raise_descriptor_limit() {
            log::debug!("up to {descriptors} descriptors");
        }
        let mut sockets = Vec::new();
        for address in &addresses {
            sockets.extend(bind::listen_at(address, &unix_access, limits.max_queued_clients)?);
        }
        let addresses = listener::addresses(&sockets);
        let (stop, stopped) = mpsc::channel(1);
        let hubs = Arc::new(Hubs::new(limits.io_arbiters, registry.procedures.len()));
        let (events, driver) = EventLoop::new().map_err(StartError::EventLoop)?;
        let shared_events = events.without_stop();
        hubs.set_event_loop(shared_events.clone());
        let entrance = Entrance::new(hubs.clone(), Census::new(limits.max_clients));
        let local = Local::new(entrance.clone());
        let (started, is_started) = std_mpsc::sync_channel(1);
        let control = std::thread::Builder::new()
            .name("postroom".to_owned())
            .spawn(move || {
                System::new().block_on(control(
                    registry,
                    limits,
                    (hubs, entrance),
                    (sockets, stats),
                    (events, driver),
                    started,
                    stopped,
                ))
            })
            .map_err(|cause| StartError::Thread { name: "control".to_owned(), cause })?;
        let started = is_started.recv().unwrap_or_else(|_| {
            let cause = io::Error::other("it panicked while it started");
            Err(StartError::Thread { name: "control".to_owned(), cause })
        });
        match started {
            Ok(stats) => {
                let (events, stopper, control) = (shared_events, Stopper(stop), Some(control));
                Ok(Self { addresses, local, events, stats, stopper, control })
            }
            Err(error) => {
                // It has ended, or is about to.
                let _ = control.join();
                Err(error)
            }
        }
    }

    /// Where it listens, with the ports that TCP sockets got.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Opens connections from inside this process: through the same readers and the same pool as any other.
    pub fn local(&self) -> Local {
        self.local.clone()
    }

    /// The event loop of the service, for embedding programs: callbacks run on the service's control thread, and should
    /// be short. It ends with the service.
    pub fn event_loop(&self) -> &EventLoop {
        &self.events
    }

    /// The numbers of the service.
    pub fn stats(&self) -> Stats {
        self.stats.read()
    }

    /// A handle to stop it from elsewhere.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Stops the service and waits until it has ended.
    ///
    /// No more clients are accepted, the socket files are removed, nothing more is read. Accepted calls are finished
    /// within `shutdown_timeout` and those that are left answered `shutting_down`, replies are flushed, the clients told
    /// `shutting_down`, all threads joined.
    pub fn stop(mut self) -> Report {
        self.stopper.stop();
        self.join()
    }

    /// Waits until the service has ended: until somebody stops it by a [`Stopper`].
    pub fn wait(mut self) -> Report {
        self.join()
    }

    fn join(&mut self) -> Report {
        // The control thread panics only through a defect of this crate; then all its actors are gone too.
        self.control.take().map_or_else(Report::default, |control| control.join().unwrap_or_default())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        self.join();
    }
}

/// An arbiter, and how to tell that its thread has ended.
struct Thread {
    name: String,
    arbiter: Arbiter,
    /// Closed when the arbiter's loop has ended.
    ended: std_mpsc::Receiver<()>,
}

impl Thread {
    fn start(name: String) -> Result<Self, StartError> {
        let failed = |cause| StartError::Thread { name: name.clone(), cause };
        let arbiter = Arbiter::try_new().map_err(failed)?;
        let (alive, ended) = std_mpsc::sync_channel(0);
        let thread_name = format!("postroom {name}");
        arbiter.spawn(async move {
            if let Ok(name) = std::ffi::CString::new(thread_name) {
                // Only for those who look at the threads from outside.
                let _ = rustix::thread::set_name(&name);
            }
            // Dropped with the arbiter's loop.
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        Ok(Self { name, arbiter, ended })
    }

    /// Joins the thread if it ends before the deadline; else returns its name.
    fn join(self, deadline: Instant) -> Option<String> {
        self.arbiter.stop();
        match self.ended.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Err(std_mpsc::RecvTimeoutError::Disconnected) | Ok(()) => {
                // What a handler panicked with at the end was logged; there is nothing more to learn from it.
                let _ = self.arbiter.join();
                None
            }
            Err(std_mpsc::RecvTimeoutError::Timeout) => Some(self.name),
        }
    }
}

/// The threads of a service, in the order in which they are stopped.
struct Threads {
    io: Vec<Thread>,
    workers: Vec<Thread>,
    asynchronous: Vec<Thread>,
}

impl Threads {
    fn start(limits: &Limits) -> Result<Self, StartError> {
        let start = |name: &str, count: usize| -> Result<Vec<Thread>, StartError> {
            let mut threads = Vec::new();
            for number in 0..count {
                match Thread::start(format!("{name} {number}")) {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        join(threads);
                        return Err(error);
                    }
                }
            }
            Ok(threads)
        };
        let io = start("io", limits.io_arbiters)?;
        let workers = match start("worker", limits.min_workers) {
            Ok(workers) => workers,
            Err(error) => {
                join(io);
                return Err(error);
            }
        };
        match start("async", limits.async_workers) {
            Ok(asynchronous) => Ok(Self { io, workers, asynchronous }),
            Err(error) => {
                join(io);
                join(workers);
                Err(error)
            }
        }
    }

    fn join(self) -> Vec<String> {
        join(self.io.into_iter().chain(self.asynchronous).chain(self.workers).collect())
    }
}

/// Stops and joins threads. Returns the names of those that did not end.
fn join(threads: Vec<Thread>) -> Vec<String> {
    let deadline = Instant::now() + JOIN_TIMEOUT;
    threads.iter().for_each(|thread| {
        thread.arbiter.stop();
    });
    threads.into_iter().filter_map(|thread| thread.join(deadline)).collect()
}

/// Asks an actor whether it has started; the answer is the answer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Ready;

/// Waits until the actors of all arbiters are there, so that no call can come before.
async fn all_ready(
    workers: &[Addr<Worker>],
    async_workers: &[Addr<AsyncWorker>],
    hubs: &[Addr<Hub>],
) -> Result<(), StartError> {
    let failed = |name: &str| {
        let cause = io::Error::other("its actor ended while it started");
        StartError::Thread { name: name.to_owned(), cause }
    };
    for worker in workers {
        worker.send(Ready).await.map_err(|_| failed("worker"))?;
    }
    for worker in async_workers {
        worker.send(Ready).await.map_err(|_| failed("async"))?;
    }
    for hub in hubs {
        hub.send(Ready).await.map_err(|_| failed("io"))?;
    }
    Ok(())
}

/// Whether all clients have ended before this time has passed.
async fn within(events: &EventLoop, time: Duration, drained: &mut mpsc::Receiver<()>) -> bool {
    let timeout = std::pin::pin!(timer::sleep(events, time));
    let drained = std::pin::pin!(drained.recv());
    matches!(futures::future::select(drained, timeout).await, futures::future::Either::Left(_))
}

/// The control thread: starts everything, waits for the stop, stops everything.
async fn control(
    registry: Arc<Registry>,
    limits: Limits,
    (hubs, entrance): (Arc<Hubs>, Arc<Entrance>),
    (sockets, stats): (Vec<Bound>, stats::Source),
    (events, driver): (EventLoop, Driver),
    started: std_mpsc::SyncSender<Result<Arc<stats::Parts>, StartError>>,
    mut stopped: mpsc::Receiver<()>,
) -> Report {
    let threads = match Threads::start(&limits) {
        Ok(threads) => threads,
        Err(error) => {
            let _ = started.send(Err(error));
            return Report::default();
        }
    };
    let handover = Handover::new(registry, hubs, &limits, Instant::now());
    // Not on this thread, where callbacks of the event loop may take their time.
    if let Some(io) = threads.io.first() {
        let pool = handover.clone();
        handover.pool_started(Pool::start_in_arbiter(&io.arbiter.handle(), move |_| Pool::new(pool)));
    }
    let max_packet = limits.max_packet;
    let mut workers = Vec::new();
    for (number, thread) in threads.workers.iter().enumerate() {
        let handover = handover.clone();
        let start = move |_: &mut _| Worker::new(number, handover, max_packet);
        workers.push(Worker::start_in_arbiter(&thread.arbiter.handle(), start));
    }
    let mut async_workers = Vec::new();
    for (number, thread) in threads.asynchronous.iter().enumerate() {
        let handover = handover.clone();
        let start = move |_: &mut _| AsyncWorker::new(number, handover, max_packet);
        async_workers.push(AsyncWorker::start_in_arbiter(&thread.arbiter.handle(), start));
    }
    let mut hub_addresses = Vec::new();
    for (number, thread) in threads.io.iter().enumerate() {
        let handover = handover.clone();
        let limits = limits.clone();
        let hub = Hub::start_in_arbiter(&thread.arbiter.handle(), move |_| {
            // `io_arbiters` is at most 256.
            Hub::new(number as u16, handover, limits)
        });
        hub_addresses.push(hub);
    }
    // All of them are there before the first client is.
    if let Err(error) = all_ready(&workers, &async_workers, &hub_addresses).await {
        threads.join();
        let _ = started.send(Err(error));
        return Report::default();
    }
    let parts = Arc::new(stats::Parts { handover, census: entrance.census().clone() });
    stats.set(&parts);
    let listener = Listener::new(sockets, entrance.clone(), (events.clone(), driver)).start();
    let _ = started.send(Ok(parts));

    // Also when the handle is gone: nobody could stop the service any more.
    stopped.recv().await;
    log::info!("stopping");
    // Closed listening sockets and removed files are what others see first.
    entrance.close();
    let _ = listener.send(Close).await;
    let (draining, mut drained) = mpsc::channel::<()>(1);
    for hub in &hub_addresses {
        hub.do_send(Drain(draining.clone()));
    }
    drop(draining);
    let mut report = Report::default();
    if !within(&events, limits.shutdown_timeout, &mut drained).await {
        for hub in &hub_addresses {
            report.cut_calls += hub.send(Finish).await.unwrap_or(0);
        }
        if report.cut_calls > 0 {
            log::warn!("{} calls did not finish in time and were answered shutting_down", report.cut_calls);
        }
        if !within(&events, FLUSH_TIMEOUT, &mut drained).await {
            for hub in &hub_addresses {
                report.cut_clients += hub.send(Cut).await.unwrap_or(0);
            }
            log::warn!("cut {} clients that did not read what was for them", report.cut_clients);
        }
    }
    let _ = listener.send(End).await;
    // Joining blocks this thread; nothing else runs here any more.
    report.abandoned_threads = threads.join();
    for thread in &report.abandoned_threads {
        log::warn!("the handler on thread {thread} did not return; it is abandoned");
    }
    log::info!("stopped");
    report
}
