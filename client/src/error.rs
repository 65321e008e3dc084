//! What can go wrong: with a call, with a connection, with connecting.
//!
//! Each type is one operation's; each display says what happened, where, and what to try.
//! All of them are small and clone cheaply, since one lost connection is told to every caller.

mod call;
mod close;
mod connect;

pub use call::CallError;
pub use close::{CloseCause, CloseReason};
pub use connect::{ConnectError, ConnectProblem};
