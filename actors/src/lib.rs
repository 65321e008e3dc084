//! The actors of Postroom: what happens to a call between the socket it comes from and the handler that answers it.
//!
//! Only this crate knows actix and sockets; the format of packets is `postroom-protocol`'s, and the face that users
//! see is the crate `postroom`, which re-exports what is public here.
//!
//! # Layout
//!
//! In the order in which a call comes by:
//!
//! - [`server`]: starts all of the following, and stops and joins it.
//! - `listener`: accepts connections and gives each to a hub.
//! - `hub`: the actor of one I/O arbiter, with what its readers share.
//! - `reader`: the task of one client: bytes to calls, replies to bytes.
//! - `pool`: hands calls to workers, and holds those that have to wait.
//! - `worker`: the actors that run handlers, each on a thread of its own.
//! - `supervisor`: starts and replaces workers, and watches over handlers that fail while they start.
//! - `watchdog`: names calls that hold their threads for too long.
//! - `desk`: where handler actors sit on such a thread, and get their calls.
//! - [`program`]: what users declare; typed handlers become functions on bytes here.
//! - `job`, `reply`: what travels there and back. `form`: how an answer is written. `stage`: whether a call still waits, runs, or was ended.
//! - [`events`]: what programs tell without being asked: from whoever publishes to those who subscribed.
//! - `estimate`: how long procedures take. [`stats`]: what is counted. `watch`: the reactor's one entry. `prefetch`: hints to the processor.
//! - `timer`: points in time on the event loop. `time`: moments on a call's way. `clock`: that of a thread that looks at it
//!   for each call.
//! - [`event_loop`]: watches descriptors and timers, for whoever asks. Stands alone.
//! - [`limits`]: every limit, as one table. [`call`], [`peer`]: what a handler gets to see. [`Blob`]: bytes among arguments
//!   and results. `few`: copies of few bytes.
//! - `bench` (with the feature of this name): the same on one thread, for the benchmarks of this project.

pub mod server;

mod hub;
mod listener;
mod pool;
mod reader;
mod supervisor;
mod worker;

mod blob;
mod clock;
mod desk;
mod estimate;
mod few;
mod form;
mod incident;
mod job;
mod prefetch;
mod reply;
mod runs;
#[cfg(test)]
mod simulation;
mod stage;
mod sync;
mod time;
mod timer;
mod timerfd;
mod watch;
mod watchdog;

#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;

pub mod call;
pub mod event_loop;
pub mod events;
pub mod limits;
pub mod local;
pub mod peer;
pub mod program;
pub mod stats;

pub use blob::Blob;
pub use call::{Call, CallId};
pub use limits::{LimitErrors, Limits, Workers};
pub use listener::bind::{BindError, UnixAccess};
pub use peer::{Credentials, Peer, Transport};
pub use postroom_protocol::{Address, Code, Error};
pub use program::registry::ProgramErrors;
pub use program::{Class, Codec, Handlers, Outcome, Procedure, Program, Schemas};
pub use server::{Parts, Report, Running, StartError, Stopper};
pub use supervisor::health::{Health, Reason};
pub use watchdog::StuckCall;
