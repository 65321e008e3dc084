//! The programs that come with every service.
//!
//! They are written with the same interface that users have; only `keepalive` is not, since the reader answers it
//! before any queue.

pub mod directory;
pub mod echo;

use postroom_actors::Program;
use postroom_protocol::keepalive;

/// The program `keepalive`. Its packets are events, not calls, so it has no procedures: pings are answered by the
/// reader at once. It is here so that a call to it is told so.
pub(crate) fn keepalive() -> Program {
    Program::new("keepalive", keepalive::PROGRAM, keepalive::VERSION)
}
