//! The assembly: starts the actors of a service, each on its arbiter, and stops and joins them.
//!
//! ```text
//! control thread  System, listener, event loop, supervisor
//! io 0 … n        a hub each, with its readers and inline handlers; on the first also the pool actor
//! watchdog        looks at what the others run
//! worker 0 … n    a worker each, with its handlers
//! priority 0 … n  a worker each, that takes priority calls only
//! async 0 … n     an async worker each, with its handlers
//! ```
//!
//! Nothing is process-wide: two services in one process have two control threads. Stopping goes the way calls come:
//! no more clients, then no more calls, then replies, then threads.

use std::io;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use actix::{Actor, Addr, Message};
use actix_rt::System;
use postroom_protocol::{Address, Error};
use tokio::sync::mpsc;

use crate::event_loop::{Driver, EventLoop};
use crate::events::{Bulletin, ClientEvents, Publisher};
use crate::hub::{Cut, Drain, Finish, Hub, Hubs, Timer};
use crate::limits::{LimitErrors, Limits, Workers};
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
use crate::supervisor::health::Health;
use crate::supervisor::thread::{Thread, join};
use crate::supervisor::{Controls, Dismiss, Open, Supervisor};
use crate::time::Instant;
use crate::{timer, watchdog};

/// How long clients may take, once their last call is answered, to read that and to end their connection.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

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
    /// By which event it tells of the clients that come and go, if it does.
    pub client_events: Option<ClientEvents>,
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
    /// The process has too few descriptors for the event loop, the timers of the I/O arbiters, and one in reserve.
    Descriptors(io::Error),
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
            Self::Descriptors(cause) => {
                write!(f, "there are too few descriptors: {cause}; raise the limit (ulimit -n)")
            }
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
    bulletin: Arc<Bulletin>,
    stats: Arc<stats::Parts>,
    controls: Arc<Controls>,
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
        let Parts { limits, addresses, unix_access, programs, stats, client_events } = parts;
        let limits = limits.settled()?;
        let mut registry = Registry::new(programs, limits.poison_after)?;
        let (events, publishers) = std::mem::take(&mut registry.events);
        let bulletin = Bulletin::new(events, publishers, limits.io_arbiters, &limits, client_events);
        let registry = Arc::new(registry);
        let controls = Controls::new(limits.workers(), registry.watch.clone());
        let shared = controls.clone();
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
        let (events, driver) = EventLoop::new().map_err(StartError::Descriptors)?;
        let timers: io::Result<Vec<Timer>> = (0..limits.io_arbiters).map(|_| Timer::new()).collect();
        let timers = timers.map_err(StartError::Descriptors)?;
        let shared_events = events.without_stop();
        hubs.set_event_loop(shared_events.clone());
        hubs.set_bulletin(bulletin.clone());
        let entrance = Entrance::new(hubs.clone(), Census::new(limits.max_clients));
        let local = Local::new(entrance.clone());
        let (started, is_started) = std_mpsc::sync_channel(1);
        let control = std::thread::Builder::new()
            .name("postroom".to_owned())
            .spawn(move || {
                System::new().block_on(control(
                    registry,
                    limits,
                    (hubs, entrance, shared),
                    (sockets, stats),
                    (events, driver, timers),
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
                Ok(Self { addresses, local, events, bulletin, stats, controls, stopper, control })
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

    /// Publishes the events of a program, by the name of the program (its highest version, or `name/version`): from any
    /// thread of an embedding program, and from callbacks of the event loop.
    ///
    /// # Errors
    ///
    /// When there is no such program or version.
    pub fn publisher(&self, program: &str) -> Result<Publisher, Error> {
        self.bulletin.publisher_by_name(program)
    }

    /// The numbers of the service.
    pub fn stats(&self) -> Stats {
        self.stats.read()
    }

    /// How many workers there are to be.
    pub fn workers(&self) -> Workers {
        self.controls.wanted()
    }

    /// Changes how many workers there are to be, all values or none.
    ///
    /// When it returns, new workers were started, and those that are too many told to leave: idle ones do at once,
    /// those at work when their calls are done. Not to be called from a callback of the service's event loop, whose
    /// thread does the work.
    ///
    /// # Errors
    ///
    /// When a value is out of its range, or `min_workers` is more than `max_workers`; nothing has changed then.
    pub fn resize(&self, workers: Workers) -> Result<(), LimitErrors> {
        self.controls.resize(workers)
    }

    /// Whether all is in order, and else what is not and when it is tried again.
    pub fn health(&self) -> Health {
        self.controls.watch().health()
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

/// Starts the threads of the I/O arbiters.
fn start_io(count: usize) -> Result<Vec<Thread>, StartError> {
    let mut threads = Vec::new();
    for number in 0..count {
        match Thread::start(format!("io {number}")) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                join(threads);
                return Err(error);
            }
        }
    }
    Ok(threads)
}

/// Asks an actor whether it has started; the answer is the answer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Ready;

/// Waits until the actors of all arbiters are there, so that no call can come before.
async fn all_ready(supervisor: &Addr<Supervisor>, hubs: &[Addr<Hub>]) -> Result<(), StartError> {
    let failed = |name: &str| {
        let cause = io::Error::other("its actor ended while it started");
        StartError::Thread { name: name.to_owned(), cause }
    };
    for worker in supervisor.send(Open).await.map_err(|_| failed("control"))?? {
        worker.send(Ready).await.map_err(|_| failed("worker"))?;
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

/// Joins all threads. Returns the names of those that did not end.
async fn join_all(io: Vec<Thread>, supervisor: &Addr<Supervisor>) -> Vec<String> {
    let workers = supervisor.send(Dismiss).await.map_or_else(|_| Vec::new(), |dismissed| dismissed.0);
    // Joining blocks this thread; nothing else runs here any more.
    join(io.into_iter().chain(workers).collect())
}

/// The control thread: starts everything, waits for the stop, stops everything.
async fn control(
    registry: Arc<Registry>,
    limits: Limits,
    (hubs, entrance, controls): (Arc<Hubs>, Arc<Entrance>, Arc<Controls>),
    (sockets, stats): (Vec<Bound>, stats::Source),
    (events, driver, timers): (EventLoop, Driver, Vec<Timer>),
    started: std_mpsc::SyncSender<Result<Arc<stats::Parts>, StartError>>,
    mut stopped: mpsc::Receiver<()>,
) -> Report {
    let (drive, reserve) = match listener::begin(driver) {
        Ok(begun) => begun,
        Err(error) => {
            let _ = started.send(Err(StartError::Descriptors(error)));
            return Report::default();
        }
    };
    let threads = match start_io(limits.io_arbiters) {
        Ok(threads) => threads,
        Err(error) => {
            let _ = started.send(Err(error));
            return Report::default();
        }
    };
    let handover = Handover::new(registry, hubs, &limits, Instant::now());
    // Not on this thread, where callbacks of the event loop may take their time.
    if let Some(io) = threads.first() {
        let pool = handover.clone();
        handover.pool_started(Pool::start_in_arbiter(&io.handle(), move |_| Pool::new(pool)));
    }
    let watchdog = match Thread::start("watchdog".to_owned()) {
        Ok(watchdog) => watchdog,
        Err(error) => {
            join(threads);
            let _ = started.send(Err(error));
            return Report::default();
        }
    };
    watchdog.handle().spawn(watchdog::watch(handover.clone(), limits.stuck_after));
    let mut threads = threads;
    threads.push(watchdog);
    let supervisor = Supervisor::new(handover.clone(), controls.clone(), limits.max_packet).start();
    let mut hub_addresses = Vec::new();
    for ((number, thread), timer) in threads.iter().enumerate().zip(timers) {
        let handover = handover.clone();
        let limits = limits.clone();
        let hub = Hub::start_in_arbiter(&thread.handle(), move |_| {
            // `io_arbiters` is at most 256.
            Hub::new(number as u16, handover, limits, timer)
        });
        hub_addresses.push(hub);
    }
    // All of them are there before the first client is.
    if let Err(error) = all_ready(&supervisor, &hub_addresses).await {
        join_all(threads, &supervisor).await;
        let _ = started.send(Err(error));
        return Report::default();
    }
    let parts = Arc::new(stats::Parts { handover, census: entrance.census().clone(), controls });
    stats.set(&parts);
    let listener = Listener::new(sockets, entrance.clone(), (events.clone(), drive), reserve).start();
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
    report.abandoned_threads = join_all(threads, &supervisor).await;
    for thread in &report.abandoned_threads {
        log::warn!("the handler on thread {thread} did not return; it is abandoned");
    }
    log::info!("stopped");
    report
}
