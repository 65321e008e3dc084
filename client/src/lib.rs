//! A client of Postroom services.
//!
//! A [`Client`] is a handle on one connection, which any number of tasks share: it is cheap to clone, and calls that
//! are made at the same time travel in the same write. The address decides where a call runs: behind a Unix or TCP
//! socket, or, with a [`Connector`] that was given the service, in this very process.
//!
//! ```no_run
//! use postroom_client::{Client, Procedure};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize)]
//! struct Resize { width: u32 }
//! #[derive(Deserialize)]
//! struct Thumbnail { height: u32 }
//!
//! const RESIZE: Procedure = Procedure::new(0x7468_6d62, 1, 1);
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("unix:/run/postroom/postroom.sock").await?;
//! let thumbnail: Thumbnail = client.call(RESIZE, &Resize { width: 64 }).await?;
//! // The same by name, with a deadline, and repeated if the connection is lost.
//! let thumbnail: Thumbnail = client
//!     .request("thumbs.resize")
//!     .args(&Resize { width: 64 })
//!     .deadline(std::time::Duration::from_millis(500))
//!     .idempotent()
//!     .send()
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! Programs without async use [`blocking::Client`], which has the same calls.
//!
//! # Layout
//!
//! From what people write inwards:
//!
//! - [`Client`], [`Program`], [`Request`] and [`Call`]: making calls; [`blocking`]: the same without async.
//! - [`Subscribe`] and [`Subscription`]: events, as a stream.
//! - [`ClientBuilder`], [`Keepalive`] and [`Reconnect`]: how a client behaves.
//! - [`Connector`], [`Location`] and [`LocalService`]: where a call runs.
//! - [`CallError`], [`ConnectError`] and [`CloseReason`]: what can go wrong.
//! - `exchange`: what callers and the connection share: the calls, the events, the output, the limits. It does no input or output.
//! - `connection`: the one task that owns the socket.
//!
//! # Threads and runtimes
//!
//! A connection is one task of the tokio runtime that [`Client::connect`] was called in; the runtime needs I/O and
//! time. Handles may move anywhere. Nothing here is process-wide: no registry, no static, no thread that outlives its
//! owner.

#![forbid(unsafe_code)]

pub mod blocking;
mod call;
mod client;
mod program;
mod request;
mod subscription;

mod builder;
mod settings;

mod connector;
mod local;
mod location;
mod procedure;

mod directory;
mod error;
mod names;

mod connection;
mod exchange;

pub use builder::ClientBuilder;
pub use call::Call;
pub use client::Client;
pub use connector::Connector;
pub use directory::ServiceInfo;
pub use error::{CallError, CloseCause, CloseReason, ConnectError, ConnectProblem};
pub use local::{Duplex, LocalService};
pub use location::{Location, LocationError};
pub use postroom_protocol::event::Overflow;
pub use postroom_protocol::{Address, Code, Error};
pub use procedure::{Procedure, Target};
pub use program::Program;
pub use request::Request;
pub use settings::{Keepalive, Reconnect};
pub use subscription::{Event, Subscribe, Subscription, SubscriptionError};
