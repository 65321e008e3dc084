//! The same client for programs without async.
//!
//! The connection lives on a thread of its own, with a small runtime of its own; callers hand their calls in directly
//! and sleep until the reply is there, so a call costs no hop through a task. Any number of threads may call at the
//! same time, and share the connection as tasks do.
//!
//! ```no_run
//! use postroom_client::blocking::Client;
//!
//! # fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("unix:/run/postroom/postroom.sock")?;
//! let answer: String = client.call("echo.mirror", "hello")?;
//! # Ok(()) }
//! ```

mod client;
mod request;
mod subscription;
mod wait;

pub use client::Client;
pub use request::Request;
pub use subscription::{Subscribe, Subscription};
