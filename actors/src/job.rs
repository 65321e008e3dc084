//! A call on its way: what travels between reader, pool and worker.
//!
//! A [`Job`] is the packet of a call, not yet decoded, with all that its answer needs. It is handed on several times, so
//! it is a pointer to what it has; the block that this lies in goes back with the reply, as a [`Shell`], and is used
//! for another call, because blocks that one thread allocates and another frees are slow. A [`Basket`] is the jobs that
//! travel in one message; when it is dropped undelivered (its receiver is gone), every job in it is answered. Neither
//! knows sockets or handlers.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use postroom_protocol::{Error, Header, PacketType, Status};

use crate::call::CallId;
use crate::few;
use crate::form::Form;
use crate::hub::Hubs;
use crate::hub::calls::Ties;
use crate::peer::Peer;
use crate::pool::Permit;
use crate::reader::client::Accept;
use crate::stage::CallRef;
use crate::time::Instant;

/// A client's place in the table of its hub. The generation tells a new client from the one that had the slot before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientKey {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// To whom a call is to be answered, and as what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(crate) hub: u16,
    pub(crate) client: ClientKey,
    /// Its record with the hub, if it has one.
    pub(crate) call: CallRef,
    pub(crate) client_id: u64,
    pub(crate) program: u32,
    pub(crate) version: u32,
    pub(crate) procedure: i32,
    /// The procedure as an index into the registry.
    pub(crate) entry: u32,
    pub(crate) serial: u32,
    /// How it is answered.
    pub(crate) form: Form,
    /// The length of the call's packet: held against the client's `max_client_output` while the call runs.
    pub(crate) cost: u32,
    /// When it was received.
    pub(crate) received: Instant,
    /// When a handler began with it; until then the same as `received`.
    pub(crate) begun: Instant,
}

impl Ticket {
    /// Becomes that of a call that was accepted and starts; the hub is the same. Field by field, in place: one that is
    /// built elsewhere and copied waits for its own writes.
    #[inline]
    pub(crate) fn set(&mut self, client: ClientKey, client_id: u64, call: CallRef, accept: &Accept) {
        self.client = client;
        self.call = call;
        self.client_id = client_id;
        self.program = accept.header.program;
        self.version = accept.header.version;
        self.procedure = accept.header.procedure;
        self.entry = accept.entry;
        self.serial = accept.header.serial;
        self.form = accept.form;
        self.cost = accept.cost;
        self.received = accept.received;
        self.begun = accept.received;
    }

    /// What was known of the call when it was accepted, for one that came with nothing special.
    pub(crate) fn accept(&self) -> Accept {
        let Self { entry, form, cost, received, .. } = *self;
        Accept { header: self.header(), entry, form, cost, received, deadline: None, ties: None }
    }

    /// For no call yet.
    pub(crate) fn blank(hub: u16, now: Instant) -> Self {
        let (client, call) = (ClientKey { slot: 0, generation: 0 }, CallRef { slot: 0, generation: 0 });
        let (client_id, program, version, procedure, entry, serial, cost) = Default::default();
        let form = Form::Nothing;
        let (received, begun) = (now, now);
        Self { hub, client, call, client_id, program, version, procedure, entry, serial, form, cost, received, begun }
    }

    /// The header of the call, as far as its reply needs it.
    pub(crate) fn header(&self) -> Header {
        Header {
            program: self.program,
            version: self.version,
            procedure: self.procedure,
            packet_type: PacketType::Call,
            serial: self.serial,
            status: Status::Ok,
        }
    }

    /// Writes the answer that the call has failed behind what `out` holds; the error is one of the service's own.
    pub(crate) fn fail(&self, error: &Error, out: &mut Vec<u8>) {
        self.form.error(&self.header(), error, out);
    }

    pub(crate) fn call_id(&self) -> CallId {
        CallId { client_id: self.client_id, serial: self.serial }
    }
}

/// A call that was accepted and has not run.
#[derive(Debug)]
pub(crate) struct Job(Box<Content>);

/// What a job has: whole cache lines, so that none is shared with what lies beside it.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Content {
    pub(crate) ticket: Ticket,
    pub(crate) peer: Peer,
    /// What came with it in its metadata, beside its deadline.
    pub(crate) ties: Option<Arc<Ties>>,
    /// Until when its result is of use.
    pub(crate) deadline: Option<Instant>,
    pub(crate) payload: Payload,
    /// Held while the call is pending with the pool.
    pub(crate) permit: Option<Permit>,
}

impl Content {
    /// Without what most calls come without, and without its payload.
    pub(crate) fn new(ticket: Ticket, peer: Peer) -> Self {
        Self { ticket, peer, ties: None, deadline: None, payload: Payload::default(), permit: None }
    }

    /// The trace context that came with it.
    pub(crate) fn trace(&self) -> Option<&Arc<str>> {
        self.ties.as_ref()?.trace.as_ref()
    }
}

/// The bytes of a call's arguments.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// Few: here, so that they need no count of references that several threads change.
    Small { length: u8, bytes: [u8; SMALL] },
    /// In a buffer where those of others may lie too.
    Within { buffer: Bytes, range: Range<usize> },
}

/// As many as fit into the room of the other form.
const SMALL: usize = 54;

/// A payload below this size lies in a buffer that it shares with others, and is copied when it has to wait.
pub(crate) const SHARED_PAYLOAD: usize = 4096;

impl Payload {
    pub(crate) fn within(buffer: Bytes, range: Range<usize>) -> Self {
        debug_assert!(range.start <= range.end && range.end <= buffer.len());
        Self::Within { buffer, range }
    }

    /// Takes these bytes. False when they are too many.
    #[inline]
    pub(crate) fn take_small(&mut self, from: &[u8]) -> bool {
        if from.len() > SMALL {
            return false;
        }
        self.clear();
        if let Self::Small { length, bytes } = self {
            // It is at most `SMALL`.
            *length = from.len() as u8;
            few::copy(from, bytes);
        }
        true
    }

    /// Makes it empty. Nothing is held then.
    #[inline]
    pub(crate) fn clear(&mut self) {
        match self {
            // What lies there is in nobody's way.
            Self::Small { length, .. } => *length = 0,
            Self::Within { .. } => *self = Self::default(),
        }
    }

    /// Holds nothing any more; what it is then is not told.
    #[inline]
    pub(crate) fn release(&mut self) {
        if let Self::Within { .. } = self {
            *self = Self::default();
        }
    }

    /// All of it by itself, if it lies in a buffer of its own.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        match self {
            Self::Within { buffer, range } if range.len() >= SHARED_PAYLOAD => Some(buffer.slice(range.clone())),
            _ => None,
        }
    }

    /// For a call that waits: it does not hold the buffer that it came in with others any more.
    pub(crate) fn keep_alone(&mut self) {
        if let Self::Within { buffer, range } = self
            && range.len() < SHARED_PAYLOAD
        {
            let bytes = Bytes::copy_from_slice(&buffer[range.clone()]);
            *self = bytes.into();
        }
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::Small { length: 0, bytes: [0; SMALL] }
    }
}

impl From<Bytes> for Payload {
    fn from(buffer: Bytes) -> Self {
        let range = 0..buffer.len();
        Self::Within { buffer, range }
    }
}

impl std::ops::Deref for Payload {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Small { length, bytes } => &bytes[..usize::from(*length)],
            Self::Within { buffer, range } => &buffer[range.clone()],
        }
    }
}

/// The block of a job that is done with, for another one.
#[derive(Debug)]
pub(crate) struct Shell(Box<Content>);

impl Job {
    pub(crate) fn new(content: Content) -> Self {
        Self(Box::new(content))
    }

    /// A job in the block of another: with its ticket, its peer, its deadline and its payload for the caller to overwrite,
    /// and nothing else of it.
    pub(crate) fn again(shell: Shell) -> Self {
        Self(shell.0)
    }

    /// Drops what the job has, but for the block. Writes nothing where there is nothing to drop: the lines of the block
    /// that this thread has not written are still the hub's, which writes them next.
    #[inline]
    pub(crate) fn empty(mut self) -> Shell {
        if self.ties.is_some() {
            self.ties = None;
        }
        if self.permit.is_some() {
            self.permit = None;
        }
        self.payload.release();
        Shell(self.0)
    }
}

impl Job {
    /// It comes next.
    #[inline]
    pub(crate) fn prefetch(&self) {
        crate::prefetch::to_read(&*self.0);
    }
}

impl Shell {
    /// It is used next.
    #[inline]
    pub(crate) fn prefetch(&self) {
        crate::prefetch::to_write(&*self.0);
    }

    /// The ticket of the job that is done with.
    pub(crate) fn ticket(&self) -> &Ticket {
        &self.0.ticket
    }
}

impl std::ops::Deref for Job {
    type Target = Content;

    fn deref(&self) -> &Content {
        &self.0
    }
}

impl std::ops::DerefMut for Job {
    fn deref_mut(&mut self) -> &mut Content {
        &mut self.0
    }
}

/// Jobs that travel in one message.
#[derive(Debug)]
pub(crate) struct Basket {
    jobs: Vec<Job>,
    hubs: Arc<Hubs>,
}

impl Basket {
    pub(crate) fn new(jobs: Vec<Job>, hubs: Arc<Hubs>) -> Self {
        Self { jobs, hubs }
    }

    pub(crate) fn into_jobs(mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }
}

#[cfg(test)]
impl Ticket {
    pub(crate) fn for_test(client: ClientKey, serial: u32, cost: u32) -> Self {
        let received = Instant::now();
        let call = CallRef { slot: serial, generation: 0 };
        let (program, version, procedure) = (1, 1, 1);
        let (client_id, entry, begun) = (1, 0, received);
        let form = Form::Packet(crate::program::Codec::MessagePack);
        Self {
            hub: 0,
            client,
            call,
            client_id,
            program,
            version,
            procedure,
            entry,
            serial,
            form,
            cost,
            received,
            begun,
        }
    }
}

#[cfg(test)]
impl Job {
    /// A call that is told from others by its serial.
    pub(crate) fn for_test(serial: u32) -> Self {
        let ticket = Ticket::for_test(ClientKey { slot: 0, generation: 0 }, serial, 28);
        let peer = Peer::new(1, crate::peer::Transport::Unix, None);
        Self::new(Content::new(ticket, peer))
    }
}

impl Job {
    /// A handler is about to run it, now. False when it must not run: it was ended, or its deadline has passed, and
    /// its hub answers it or has done so.
    pub(crate) fn begin(&mut self, hubs: &Hubs, now: Instant) -> bool {
        self.ticket.begun = now;
        self.deadline.is_none_or(|deadline| now < deadline) && hubs.stages(self.ticket.hub).begin(self.ticket.call)
    }
}

impl Job {
    /// Whether somebody still waits for it.
    pub(crate) fn is_wanted(&self, hubs: &Hubs) -> bool {
        hubs.stages(self.ticket.hub).is_wanted(self.ticket.call)
    }
}

impl Drop for Basket {
    fn drop(&mut self) {
        // Its receiver has ended, which happens when the service stops; the clients may still be there.
        self.hubs.refuse(std::mem::take(&mut self.jobs), &Error::shutting_down());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_takes_three_whole_lines() {
        // Each of them goes to another core and back for each call.
        assert_eq!((size_of::<Content>(), align_of::<Content>()), (3 * 64, 64));
    }

    #[test]
    fn few_bytes_lie_in_the_job_and_more_in_a_buffer_that_is_let_go_when_the_call_waits() {
        assert_eq!(size_of::<Payload>(), size_of::<Bytes>() + size_of::<Range<usize>>() + 8);
        let mut payload = Payload::default();
        assert!(payload.is_empty() && payload.take_small(&[7; SMALL]));
        assert_eq!(*payload, [7; SMALL]);
        let bytes: Vec<u8> = (0..SMALL as u8).collect();
        for few in (0..=SMALL).map(|length| &bytes[..length]) {
            assert!(payload.take_small(few));
            assert_eq!(*payload, *few);
        }
        assert!(!payload.take_small(&[7; SMALL + 1]));
        let buffer = Bytes::from(b"many bytes of many calls".repeat(4));
        payload = Payload::within(buffer.clone(), 5..10);
        assert!(!buffer.is_unique());
        assert_eq!(*payload, *b"bytes");
        payload.keep_alone();
        assert!(buffer.is_unique());
        assert_eq!(*payload, *b"bytes");
        payload = Payload::within(buffer.clone(), 0..buffer.len());
        assert!(payload.take_small(b"few"));
        assert!(buffer.is_unique());
        payload.keep_alone();
        assert_eq!(*payload, *b"few");
        payload.clear();
        assert!(payload.is_empty());
    }
}
