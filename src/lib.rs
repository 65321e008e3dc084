//! A local daemon, as a framework and as a ready service.
//!
//! An event loop that never blocks, a reader for each client that assembles whole packets, a supervised pool of worker
//! actors that decode and process them, and a bounded queue of pending calls between them. You write a handler actor;
//! the rest is here.
//!
//! ```no_run
//! use actix::prelude::*;
//! use postroom::{Call, Error, Program, Service};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize, Message)]
//! #[rtype(result = "Result<Sum, Error>")]
//! struct Add {
//!     a: i64,
//!     b: i64,
//! }
//!
//! #[derive(Serialize)]
//! struct Sum {
//!     sum: i64,
//! }
//!
//! #[derive(Default)]
//! struct Adder;
//!
//! impl Actor for Adder {
//!     type Context = Context<Self>;
//! }
//!
//! impl Handler<Call<Add>> for Adder {
//!     type Result = Result<Sum, Error>;
//!     fn handle(&mut self, call: Call<Add>, _: &mut Self::Context) -> Self::Result {
//!         let sum = call.args.a.checked_add(call.args.b);
//!         Ok(Sum { sum: sum.ok_or_else(|| Error::failed("the sum does not fit"))? })
//!     }
//! }
//!
//! # #[cfg(feature = "cli")]
//! fn main() -> postroom::Result<()> {
//!     let adder = Program::new("adder", 0x6164_6472, 1).handler(Adder::default).procedure::<Add>(1, "add");
//!     Service::from_args()?.program(adder).run()
//! }
//! # #[cfg(not(feature = "cli"))]
//! # fn main() {}
//! ```
//!
//! # Layout
//!
//! - [`Service`]: puts a configuration and programs together, and runs them.
//! - [`Config`]: the configuration; from a TOML file with the feature `cli`.
//! - [`Program`]: a set of procedures, and the handler actors that serve them.
//! - [`Blob`]: bytes among arguments and results; big ones are not copied when they are decoded.
//! - [`Codec`], [`xdr`], [`libvirt`]: programs that libvirt's clients call.
//! - [`client`]: calls services, this one among them.
//! - [`testing`]: for the tests of programs and handlers.
//! - [`schema`]: JSON schemas of what JSON has not.
//! - [`builtin`]: the programs that every service has, and `echo` to try it with.
//! - `cli`: the command line, for the binary and for [`Service::from_args`].
//!
//! # Features
//!
//! `cli` (default): the command line, the configuration file and the log output of the binary. Without it the library
//! reads no files, no arguments and no environment.

mod running;
mod service;

pub mod builtin;
pub mod config;
pub mod schema;
pub mod testing;

#[cfg(feature = "cli")]
pub mod cli;

pub use config::Config;
pub use postroom_actors::events::{Event, Overflow, Publisher, SubscribeOptions, Subscription};
pub use postroom_actors::{
    Address, BindError, Blob, Call, CallId, Class, Code, Codec, Credentials, Error, Handlers, Health, LimitErrors,
    Limits, Outcome, Peer, Procedure, Program, ProgramErrors, Reason, Report, Schemas, StartError, Stopper, Transport,
    UnixAccess, Workers, call, event_loop, events, limits, stats,
};
pub use postroom_client as client;
pub use postroom_protocol::{libvirt, xdr};
pub use running::Running;
pub use service::{Failure, Result, Service};
