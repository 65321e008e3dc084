//! A call on its way: what travels between reader, pool and worker.
//!
//! A [`Job`] is the packet of a call, not yet decoded, with all that its answer needs. It is handed on several times, so
//! it is a pointer to what it has; the block that this lies in goes back with the reply, as a [`Shell`], and is used
//! for another call, because blocks that one thread allocates and another frees are slow. That of an inline call is made
//! when its handler is about to run (`hub/inline.rs`). A [`Basket`] is the jobs that
//! travel in one message; when it is dropped undelivered (its receiver is gone), every job in it is answered. Neither
//! knows sockets or handlers.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use postroom_protocol::{Error, Header, PacketType, Status};

use crate::call::CallId;
use crate::form::Form;
use crate::hub::Hubs;
use crate::peer::Peer;
use crate::pool::Permit;
use crate::reader::client::Accept;
use crate::stage::CallRef;

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
    /// Its record with the hub.
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
    /// For a call that was accepted and starts.
    #[inline]
    pub(crate) fn new(hub: u16, client: ClientKey, client_id: u64, call: CallRef, accept: &Accept) -> Self {
        Self {
            hub,
            client,
            call,
            client_id,
            program: accept.header.program,
            version: accept.header.version,
            procedure: accept.header.procedure,
            entry: accept.entry,
            serial: accept.header.serial,
            form: accept.form,
            cost: accept.cost,
            received: accept.received,
            begun: accept.received,
        }
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

/// What a job has.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) ticket: Ticket,
    pub(crate) peer: Peer,
    /// The trace context that came with it.
    pub(crate) trace: Option<Arc<str>>,
    /// Until when its result is of use.
    pub(crate) deadline: Option<Instant>,
    pub(crate) payload: Payload,
    /// Held while the call is pending with the pool.
    pub(crate) permit: Option<Permit>,
}

impl Content {
    /// Without what most calls come without, and without its payload.
    pub(crate) fn new(ticket: Ticket, peer: Peer) -> Self {
        Self { ticket, peer, trace: None, deadline: None, payload: Payload::default(), permit: None }
    }
}

/// The bytes of a call's arguments, in a buffer where those of others may lie too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Payload {
    buffer: Bytes,
    range: Range<usize>,
}

/// A payload below this size lies in a buffer that it shares with others, and is copied when it has to wait.
pub(crate) const SHARED_PAYLOAD: usize = 4096;

impl Payload {
    pub(crate) fn within(buffer: Bytes, range: Range<usize>) -> Self {
        debug_assert!(range.start <= range.end && range.end <= buffer.len());
        Self { buffer, range }
    }

    /// Whether it lies in this buffer.
    pub(crate) fn is_in(&self, buffer: &Bytes) -> bool {
        !buffer.is_empty() && std::ptr::eq(&raw const self.buffer[..], &raw const buffer[..])
    }

    /// Another part of the same buffer.
    pub(crate) fn move_to(&mut self, range: Range<usize>) {
        debug_assert!(range.start <= range.end && range.end <= self.buffer.len());
        self.range = range;
    }

    /// For a call that waits: it must not hold the buffer that it came in with others.
    pub(crate) fn for_long(&self) -> Bytes {
        if self.range.len() < SHARED_PAYLOAD {
            Bytes::copy_from_slice(self)
        } else {
            self.buffer.slice(self.range.clone())
        }
    }
}

impl From<Bytes> for Payload {
    fn from(buffer: Bytes) -> Self {
        let range = 0..buffer.len();
        Self { buffer, range }
    }
}

impl std::ops::Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }
}

/// The block of a job that is done with, for another one.
#[derive(Debug)]
pub(crate) struct Shell(Box<Content>);

impl Job {
    pub(crate) fn new(content: Content) -> Self {
        Self(Box::new(content))
    }

    /// A job in the block of another, with a ticket and a peer of its own and nothing else of that one.
    pub(crate) fn again(shell: Shell, ticket: Ticket, peer: Peer) -> Self {
        let Shell(mut block) = shell;
        (block.ticket, block.peer) = (ticket, peer);
        Self(block)
    }

    /// Drops what the job has, but for the block.
    pub(crate) fn empty(mut self) -> Shell {
        (self.trace, self.deadline, self.permit) = (None, None, None);
        self.payload = Payload::default();
        Shell(self.0)
    }
}

impl Shell {
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
