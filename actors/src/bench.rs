//! For the benchmarks of this project, and no part of what the crate promises: the real way of a call on one thread.
//!
//! A [`Rig`] has a hub with its readers, a worker and the pool actor, all of them the service's own, each with an event
//! loop of its own, as if it had a thread of its own; but they run when they are told to, and one after the other. So
//! what each of them does for a call can be measured alone, and comes out the same each time. Nothing here decides
//! anything about a call, and nothing else of the crate knows of it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use actix::Actor;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{LocalSet, yield_now};

use crate::hub::{Hub, Hubs, Timer};
use crate::limits::Limits;
use crate::listener::census::Census;
use crate::listener::entrance::Entrance;
use crate::peer::Transport;
use crate::pool::Pool;
use crate::pool::handover::Handover;
use crate::program::Program;
use crate::program::registry::Registry;
use crate::reader::Stream;
use crate::supervisor::Post;
use crate::time::Instant;
use crate::worker::Worker;

/// A hub, a worker and the pool actor on this thread.
#[derive(Debug)]
pub struct Rig {
    hub: Side,
    worker: Side,
    pool: Side,
    entrance: Arc<Entrance>,
}

/// What would be one thread.
#[derive(Debug)]
struct Side {
    // In this order: what runs ends before what it runs on.
    tasks: LocalSet,
    runtime: Runtime,
}

impl Side {
    fn new() -> io::Result<Self> {
        Ok(Self { tasks: LocalSet::new(), runtime: Builder::new_current_thread().enable_all().build()? })
    }

    fn start<A: Actor<Context = actix::Context<A>>>(&self, actor: A) -> actix::Addr<A> {
        self.tasks.block_on(&self.runtime, async { actor.start() })
    }

    /// What a thread does that has slept and is woken: a look at what woke it, all that it has to do, and another look
    /// before it sleeps again.
    fn wake(&self) {
        self.tasks.block_on(&self.runtime, async {
            yield_now().await;
            yield_now().await;
        });
    }
}

impl Rig {
    /// A service of these programs, with the default limits.
    ///
    /// # Errors
    ///
    /// When the programs contradict each other, or there are no descriptors.
    pub fn new(programs: Vec<Program>) -> io::Result<Self> {
        let limits = Limits::default().settled().map_err(io::Error::other)?;
        let registry = Arc::new(Registry::new(programs, limits.poison_after).map_err(io::Error::other)?);
        let hubs = Arc::new(Hubs::new(1, registry.procedures.len()));
        let now = Instant::now();
        let handover = Handover::new(registry, hubs.clone(), &limits, now);
        handover.use_places(1, 0, 0);
        handover.reset(0, now);
        let (hub, worker, pool) = (Side::new()?, Side::new()?, Side::new()?);
        handover.pool_started(pool.start(Pool::new(handover.clone())));
        worker.start(Worker::new(Post::for_bench(0), handover.clone(), limits.max_packet));
        hub.start(Hub::new(0, handover, limits.clone(), Timer::new()?));
        let rig = Self { hub, worker, pool, entrance: Entrance::new(hubs, Census::new(limits.max_clients)) };
        rig.settle();
        Ok(rig)
    }

    /// A new client; this is its end of the connection.
    ///
    /// # Errors
    ///
    /// When there are no descriptors.
    pub fn connect(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let stream = Stream::Unix(OwnedFd::from(ours));
        let refused = |(_, error): (Stream, postroom_protocol::Error)| io::Error::other(error.to_string());
        self.entrance.enter(stream, Transport::Unix, None, &"a bench").map_err(refused)?;
        self.settle();
        Ok(theirs)
    }

    /// What the thread of the hub does when it is woken: it reads, takes in and hands on what clients have sent, runs
    /// inline calls, and writes what the worker has left to it.
    pub fn hub(&self) {
        self.hub.wake();
    }

    /// What the thread of the worker does when it is woken: it takes, runs and answers what it was given.
    pub fn worker(&self) {
        self.worker.wake();
    }

    /// Everybody does what there is left to do.
    pub fn settle(&self) {
        for _ in 0..2 {
            self.pool.wake();
            self.worker.wake();
            self.hub.wake();
        }
    }
}
