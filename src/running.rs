//! A service that runs, as the program that embeds it sees it.

use std::io;
use std::sync::Arc;

use postroom_actors::event_loop::EventLoop;
use postroom_actors::events::Publisher;
use postroom_actors::local::Local;
use postroom_actors::stats::Stats;
use postroom_actors::{Address, Error, Health, LimitErrors, Report, Stopper, Workers};
use postroom_client::{Connector, Duplex, LocalService};

/// A service that runs on threads of its own.
///
/// Dropping it stops the service, as [`Running::stop`] does.
#[derive(Debug)]
pub struct Running(postroom_actors::Running);

impl Running {
    pub(crate) fn new(running: postroom_actors::Running) -> Self {
        Self(running)
    }

    /// Where it listens, with the ports that TCP sockets got.
    pub fn addresses(&self) -> &[Address] {
        self.0.addresses()
    }

    /// The service as a [`Connector`] takes it, for clients in this process: their calls go through the same readers
    /// and the same pool as any other, without a socket.
    ///
    /// It does not keep the service running: when that has stopped, connections end and new ones are refused.
    pub fn local(&self) -> Arc<dyn LocalService> {
        Arc::new(InProcess(self.0.local()))
    }

    /// A connector that knows this service as `local:NAME`.
    pub fn connector(&self, name: impl Into<String>) -> Connector {
        Connector::new().with_local(name, self.local())
    }

    /// The event loop of the service: watches descriptors and timers for the embedding program. Callbacks run on the
    /// service's control thread, and should be short. It ends with the service.
    pub fn event_loop(&self) -> &EventLoop {
        self.0.event_loop()
    }

    /// Publishes the events of a program, by the name of the program (its highest version, or `name/version`): from any
    /// thread of the embedding program, and from callbacks of the event loop. It does not keep the service running.
    ///
    /// # Errors
    ///
    /// When there is no such program or version.
    pub fn publisher(&self, program: &str) -> Result<Publisher, Error> {
        self.0.publisher(program)
    }

    /// The numbers of the service, those of each procedure as they were at one moment.
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// How many workers there are to be.
    pub fn workers(&self) -> Workers {
        self.0.workers()
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
        self.0.resize(workers)
    }

    /// Whether all is in order, and else what is not and when it is tried again.
    pub fn health(&self) -> Health {
        self.0.health()
    }

    /// A handle to stop it from elsewhere.
    pub fn stopper(&self) -> Stopper {
        self.0.stopper()
    }

    /// Stops the service and waits until it has ended.
    ///
    /// No more clients are accepted, the socket files are removed, nothing more is read. Accepted calls are finished
    /// within `shutdown_timeout` and those that are left answered `shutting_down`, replies are flushed, the clients told
    /// `shutting_down`, all threads joined.
    pub fn stop(self) -> Report {
        self.0.stop()
    }

    /// Waits until the service has ended: until somebody stops it by a [`Stopper`].
    pub fn wait(self) -> Report {
        self.0.wait()
    }
}

/// A service of this process, by way of memory.
#[derive(Debug)]
struct InProcess(Local);

impl LocalService for InProcess {
    fn open(&self) -> io::Result<Box<dyn Duplex>> {
        Ok(Box::new(self.0.open()?))
    }
}
