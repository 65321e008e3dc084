//! One call: what a caller hands in, what is kept while it is under way, and what comes back.

use std::task::Waker;

use bytes::{Buf, Bytes};
use postroom_protocol::{Error, Metadata, codec};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::error::CallError;
use crate::procedure::Procedure;

/// A call as its caller hands it in.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) procedure: Procedure,
    /// The encoded arguments.
    pub(crate) payload: Vec<u8>,
    pub(crate) deadline: Option<Instant>,
    /// Trace and key. The deadline in it is left open until the call is sent: it is what is left then.
    pub(crate) metadata: Option<Box<Metadata>>,
    pub(crate) idempotent: bool,
    pub(crate) role: Role,
}

/// What a call means to this client beside its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Nothing.
    Plain,
    /// It opens a subscription, whose inbox has this key.
    Subscribe(u64),
    /// It ends one. Nobody waits for its reply.
    Unsubscribe,
}

impl Outgoing {
    /// A call about which nothing more is to be said.
    #[inline]
    pub(crate) fn new(procedure: Procedure, payload: Vec<u8>) -> Self {
        Self { procedure, payload, deadline: None, metadata: None, idempotent: false, role: Role::Plain }
    }
}

/// A call that is kept here.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) outgoing: Outgoing,
    pub(super) phase: Phase,
    /// How many times the call has been sent again.
    pub(super) resends: u32,
    /// Where in all that this connection sends the packet starts, while the call is in flight.
    pub(super) position: u64,
    pub(super) waker: Option<Waker>,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Not sent, or to be sent again.
    Waiting,
    /// Sent, and not answered.
    Flying,
    /// Sent, not answered, and nobody waits any more.
    /// The slot stays taken until the reply is here, so that the reply cannot reach another call,
    /// and so that the call counts against the limit for as long as the service counts it.
    Abandoned,
    /// Answered, or failed.
    Done(Result<Answer, CallError>),
}

/// A reply.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The payload, behind `offset` bytes that do not belong to it.
    pub(crate) buffer: Vec<u8>,
    pub(crate) offset: usize,
    pub(crate) is_error: bool,
}

impl Answer {
    /// The result as a value.
    #[inline]
    pub(crate) fn decode<R: DeserializeOwned>(self) -> Result<R, CallError> {
        let payload = self.payload()?;
        Ok(codec::decode(payload)?)
    }

    /// The result as it came.
    pub(crate) fn into_bytes(self) -> Result<Bytes, CallError> {
        self.payload()?;
        let mut bytes = Bytes::from(self.buffer);
        bytes.advance(self.offset);
        Ok(bytes)
    }

    #[inline]
    fn payload(&self) -> Result<&[u8], CallError> {
        let payload = self.buffer.get(self.offset..).unwrap_or_default();
        match self.is_error {
            false => Ok(payload),
            true => Err(CallError::Service(Error::decode(payload)?)),
        }
    }
}
