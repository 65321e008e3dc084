//! Where a client's accepted calls go, and what is known of a call on its way there.

use std::sync::Arc;

use bytes::Bytes;
use postroom_protocol::{Error, Header};

use crate::form::Form;
use crate::hub::calls::{Ended, Place, Ties};
use crate::program::Codec;
use crate::stage::CallRef;
use crate::stats::outcome::Verdict;
use crate::time::Instant;

/// Where the accepted calls of one client go, and what is known of them and of procedures.
pub(crate) trait Sink {
    /// The procedure that a call is for, or what its client is told.
    fn find(&mut self, program: u32, version: u32, procedure: i32) -> Result<Found, Error>;
    /// The procedure that a message calls by its name, or what its client is told.
    fn find_method(&self, method: &str) -> Result<Named, Error>;
    /// The codec in which a call that is not accepted is refused.
    fn codec(&self, header: &Header) -> Codec;
    /// Takes down a call that is accepted; it is [`Place::Started`] or in the backlog. One that starts may be taken down
    /// only when somebody looks for it.
    fn accept(&mut self, call: &Accept, place: Place) -> CallRef;
    /// Takes down a call that starts and that nothing came with, if it needs no record: then it is [`CallRef::NONE`].
    fn accept_plain(&mut self, entry: u32) -> bool {
        let _ = entry;
        false
    }
    /// A call has moved on.
    fn moved(&mut self, call: CallRef, place: Place);
    /// Starts a call. Its result will come, unless it is ended before it begins.
    fn start(&mut self, call: Start<'_>);
    /// The oldest unanswered call that a cancel packet means.
    fn oldest(&self, header: &Header) -> Option<CallRef>;
    /// The unanswered calls, oldest first, and whether each runs to its end when its client leaves.
    fn unanswered(&self) -> Vec<(CallRef, bool)>;
    /// Ends a call before its result has come. `None` when it was answered already.
    fn end(&mut self, call: CallRef, verdict: Verdict, now: Instant) -> Option<Ended>;
}

/// The procedure that a call is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// An index into the registry.
    pub(crate) entry: u32,
    pub(crate) codec: Codec,
}

/// A procedure that was found by its name, and its numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    pub(crate) found: Found,
    pub(crate) program: u32,
    pub(crate) version: u32,
    pub(crate) procedure: i32,
}

/// What is known of a call when it is accepted.
#[derive(Clone, Debug)]
pub(crate) struct Accept {
    pub(crate) header: Header,
    pub(crate) entry: u32,
    pub(crate) form: Form,
    /// The length of its packet.
    pub(crate) cost: u32,
    pub(crate) received: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) ties: Option<Arc<Ties>>,
}

impl Accept {
    pub(crate) fn trace(&self) -> Option<&Arc<str>> {
        self.ties.as_ref()?.trace.as_ref()
    }

    pub(crate) fn key(&self) -> Option<&Arc<[u8]>> {
        self.ties.as_ref()?.key.as_ref()
    }
}

/// A call that starts.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) call: CallRef,
    pub(crate) accept: &'a Accept,
    pub(crate) arguments: Arguments<'a>,
}

/// The bytes of a call's arguments: borrowed while they lie in the read buffer.
#[derive(Debug)]
pub(crate) enum Arguments<'a> {
    Borrowed(&'a [u8]),
    Owned(Bytes),
}

impl Arguments<'_> {
    pub(super) fn into_owned(self) -> Bytes {
        match self {
            Self::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Self::Owned(bytes) => bytes,
        }
    }
}
