//! A call on its way: what travels between reader, pool and worker.
//!
//! A [`Job`] is the packet of a call, not yet decoded, with all that its answer needs. A [`Basket`] is the jobs that
//! travel in one message; when it is dropped undelivered (its receiver is gone), every job in it is answered. Neither
//! knows sockets or handlers.

use std::sync::Arc;

use bytes::Bytes;
use postroom_protocol::{Header, Metadata, PacketType, Status};

use crate::call::CallId;
use crate::hub::Hubs;
use crate::peer::Peer;
use crate::pool::Permit;

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
    pub(crate) client_id: u64,
    pub(crate) program: u32,
    pub(crate) version: u32,
    pub(crate) procedure: i32,
    pub(crate) serial: u32,
    /// The length of the call's packet: held against the client's `max_client_output` while the call runs.
    pub(crate) cost: u32,
}

impl Ticket {
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

    pub(crate) fn call_id(&self) -> CallId {
        CallId { client_id: self.client_id, serial: self.serial }
    }
}

/// A call that was accepted and has not run.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) ticket: Ticket,
    /// Its procedure: an index into the registry.
    pub(crate) entry: u32,
    pub(crate) peer: Peer,
    pub(crate) metadata: Option<Box<Metadata>>,
    pub(crate) payload: Bytes,
    /// Held while the call is pending with the pool.
    pub(crate) permit: Option<Permit>,
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
impl Job {
    /// A call that is told from others by its serial.
    pub(crate) fn for_test(serial: u32) -> Self {
        let client = ClientKey { slot: 0, generation: 0 };
        let ticket = Ticket { hub: 0, client, client_id: 1, program: 1, version: 1, procedure: 1, serial, cost: 28 };
        let peer = Peer::new(1, crate::peer::Transport::Unix, None);
        Self { ticket, entry: 0, peer, metadata: None, payload: Bytes::new(), permit: None }
    }
}

impl Drop for Basket {
    fn drop(&mut self) {
        // Its receiver has ended, which happens when the service stops; the clients may still be there.
        self.hubs.refuse(std::mem::take(&mut self.jobs), &postroom_protocol::Error::shutting_down());
    }
}
