//! What callers and the connection share: the calls, the packets on their way out, the limits, how things stand.
//!
//! Callers put calls in and take replies out; the task of the connection takes output and puts answers in.
//! Nothing here touches a socket or waits: every operation is a short critical section, and no user code runs in it.
//! Wakers are woken and dropped after the lock is released, since dropping one can run a task's destructor,
//! which may come back here.
//!
//! ```text
//!                 ┌──────────── connection lost, may be sent again ───────────┐
//!                 ▼                                                           │
//!   submit ──► Waiting ──── room under the limits ────► Flying ──── reply ────┴─► Done ──► taken by its caller
//!                 │                                       │                         ▲
//!                 │ caller gone                           │ caller gone: Cancel     └── connection lost
//!                 ▼                                       ▼
//!               free                                  Abandoned ─── reply, or connection lost ──► free
//! ```
//!
//! Bounds: calls in flight, abandoned ones included, by the service's `max_client_requests` and the client's own
//! limit. Output by `MAX_OUTPUT` and one packet, plus one cancel for each call in flight. The queue of waiting calls
//! has one entry for each future that is being awaited, and one more for some that are gone until their turn comes.
//! Events that were not taken by the queue that each subscription asked for.

mod calls;
mod flight;
mod inboxes;
mod link;
mod slots;
mod state;

pub(crate) use calls::{Answer, Outgoing, Role};
pub(crate) use flight::Flight;
pub(crate) use inboxes::{End, Incoming};
pub(crate) use link::Link;
pub(crate) use slots::GREETING_SERIAL;
pub(crate) use state::{Closing, Limits, Phase, State};
