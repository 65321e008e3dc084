//! What a handler gets: [`Call`], the arguments and who called.
//!
//! Also which call this thread runs right now ([`current`]), so that a log line written inside a handler can carry
//! the client and the serial without the handler saying so.

use std::cell::Cell;

use actix::Message;
use postroom_protocol::Metadata;

use crate::peer::Peer;

/// One call, as its handler sees it.
///
/// It is an actix message: a handler actor implements `Handler<Call<Args>>`, and `Args` says by its own `Message`
/// derive what the result is.
#[derive(Debug)]
pub struct Call<M> {
    /// The decoded arguments.
    pub args: M,
    context: Context,
}

/// What a call carries beside its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) peer: Peer,
    pub(crate) serial: u32,
    pub(crate) metadata: Option<Box<Metadata>>,
}

impl<M: Message> Message for Call<M> {
    type Result = M::Result;
}

impl<M> Call<M> {
    pub(crate) fn new(args: M, context: Context) -> Self {
        Self { args, context }
    }

    /// A call as a test makes it; see the module `testing` of the crate `postroom`.
    pub fn for_test(args: M, peer: Peer, serial: u32) -> Self {
        Self::new(args, Context { peer, serial, metadata: None })
    }

    /// Who called: transport, user, group, process, and the number of the connection.
    pub fn peer(&self) -> &Peer {
        &self.context.peer
    }

    /// The number of the connection; the same as `peer().client_id()`.
    pub fn client_id(&self) -> u64 {
        self.context.peer.client_id()
    }

    /// The serial that the client chose for this call. Not unique: it is the client's affair.
    pub fn serial(&self) -> u32 {
        self.context.serial
    }

    /// The trace context (W3C `traceparent`) that came with the call, if one did. It is what the client sent: check
    /// it before trusting its form.
    pub fn trace(&self) -> Option<&str> {
        self.context.metadata.as_ref()?.trace.as_deref()
    }
}

/// A call, by what names it in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId {
    /// The number of the connection.
    pub client_id: u64,
    /// The serial that the client chose.
    pub serial: u32,
}

thread_local! {
    static CURRENT: Cell<Option<CallId>> = const { Cell::new(None) };
}

/// The call whose handler runs on this thread right now.
///
/// `None` outside of handlers. For an async procedure it is set while its future is polled.
pub fn current() -> Option<CallId> {
    CURRENT.get()
}

/// Runs `body` as part of a call; [`current`] tells which, also while `body` unwinds.
pub(crate) fn within<R>(call: CallId, body: impl FnOnce() -> R) -> R {
    struct Restore(Option<CallId>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(Some(call)));
    body()
}
