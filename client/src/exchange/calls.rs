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

/// A call that is kept here. Its parts are written and read by themselves, where they lie: a copy of the whole would wait
/// for its own writes.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) procedure: Procedure,
    /// The encoded arguments; once the call is answered, the reply.
    pub(super) payload: Vec<u8>,
    /// How many bytes in front of the reply do not belong to it.
    pub(super) offset: usize,
    pub(super) is_error: bool,
    pub(super) idempotent: bool,
    pub(super) role: Role,
    pub(super) phase: Phase,
    /// How many times the call has been sent again.
    pub(super) resends: u32,
    /// Where in all that this connection sends the packet starts, while the call is in flight.
    pub(super) position: u64,
    pub(super) deadline: Option<Instant>,
    pub(super) metadata: Option<Box<Metadata>>,
    /// Why a call that is done has no reply.
    failure: Option<Box<CallError>>,
    pub(super) waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    Done,
}

impl Call {
    /// None yet.
    pub(super) fn blank() -> Self {
        let Outgoing { procedure, payload, deadline, metadata, idempotent, role } =
            Outgoing::new(Procedure::new(0, 0, 0), Vec::new());
        let (offset, is_error, resends, position) = Default::default();
        let (phase, failure, waker) = (Phase::Waiting, None, None);
        Self {
            procedure,
            payload,
            offset,
            is_error,
            idempotent,
            role,
            phase,
            resends,
            position,
            deadline,
            metadata,
            failure,
            waker,
        }
    }

    /// Takes over what a caller has handed in, to be sent.
    #[inline]
    pub(super) fn begin(&mut self, outgoing: &mut Outgoing, waker: Option<Waker>) {
        self.procedure = outgoing.procedure;
        self.payload = std::mem::take(&mut outgoing.payload);
        self.idempotent = outgoing.idempotent;
        self.role = outgoing.role;
        self.phase = Phase::Waiting;
        (self.resends, self.position) = (0, 0);
        self.deadline = outgoing.deadline;
        self.metadata = outgoing.metadata.take();
        self.waker = waker;
    }

    /// The call has failed. Returns whom to wake for that.
    pub(super) fn fail(&mut self, error: CallError) -> Option<Waker> {
        self.phase = Phase::Done;
        self.failure = Some(Box::new(error));
        self.waker.take()
    }

    /// What has become of a call that is done.
    #[inline]
    pub(super) fn take(&mut self) -> Result<Answer, CallError> {
        match self.failure.take() {
            None => {
                let buffer = std::mem::take(&mut self.payload);
                Ok(Answer { buffer, offset: self.offset, is_error: self.is_error })
            }
            Some(failure) => Err(*failure),
        }
    }

    /// Gives back what it holds.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.payload = Vec::new();
        self.metadata = None;
        self.failure = None;
        self.waker = None;
    }
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
