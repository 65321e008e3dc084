//! What the readers of an arbiter have accepted in one turn of its loop, until the hub hands it on; or one of them, if its
//! client is alone.
//!
//! Plain data, filled by the readers' [`HubSink`](super::sink::HubSink) and emptied in the same turn. Bound: what the
//! readers of one turn may accept (`max_client_requests` each).

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::job::{ClientKey, Job, Payload, SHARED_PAYLOAD, Shell};
use crate::reader::client::Arguments;

/// So much room for calls is kept from one turn to the next, and so many blocks for jobs.
pub(super) const KEPT: usize = 1024;

/// The calls of one turn.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) blocking: Lot,
    pub(super) asynchronous: Lot,
    pub(super) inline: Lot,
    /// So many of them have records: those that came before somebody looked for one.
    pub(super) taken_down: usize,
    /// The client of the last inline call, and how often the next was of another client than the one before.
    inline_client: Option<ClientKey>,
    pub(super) inline_changes: usize,
    /// Blocks for inline calls.
    pub(super) inline_shells: Vec<Shell>,
    pub(super) payloads: Payloads,
    /// Whether the turn was woken for what is in it.
    pub(super) is_announced: bool,
}

/// Room for so many bytes of payloads is kept.
const KEPT_BYTES: usize = 64 * 1024;

/// Payloads of one turn, behind each other.
#[derive(Debug, Default)]
pub(super) struct Payloads {
    /// Behind those of the turns before, for as long as there is room: their calls may still have them.
    bytes: BytesMut,
    /// How many one turn took lately, to allocate about right.
    expected: usize,
}

impl Payloads {
    /// Takes a call's arguments: into its payload if they are few or many, else behind those of the others, and then
    /// `later` gets where they lie, with the index of the call.
    #[inline(always)]
    pub(super) fn lay(&mut self, arguments: Arguments<'_>, payload: &mut Payload, index: usize, later: &mut Later) {
        match arguments {
            Arguments::Borrowed(bytes) if payload.take_small(bytes) => {}
            Arguments::Borrowed(bytes) if bytes.len() < SHARED_PAYLOAD => {
                let start = self.bytes.len();
                if start == 0 {
                    self.bytes.reserve(self.expected);
                }
                self.bytes.extend_from_slice(bytes);
                later.push((index, start..self.bytes.len()));
            }
            Arguments::Borrowed(bytes) => *payload = Bytes::copy_from_slice(bytes).into(),
            Arguments::Owned(bytes) => *payload = bytes.into(),
        }
    }

    fn take(&mut self) -> Bytes {
        self.expected = self.bytes.len();
        let taken = self.bytes.split().freeze();
        if self.expected > KEPT_BYTES {
            self.bytes = BytesMut::new();
        }
        taken
    }
}

/// Where payloads lie in the buffer, each with the index of its call, which is without it until the turn is over.
pub(super) type Later = Vec<(usize, Range<usize>)>;

/// The calls of one class.
#[derive(Debug, Default)]
pub(super) struct Lot {
    pub(super) jobs: VecDeque<Job>,
    pub(super) payloads: Later,
}

impl Collected {
    pub(super) fn is_empty(&self) -> bool {
        self.inline.jobs.is_empty() && self.jobs() == 0
    }

    /// How many calls there are for other threads.
    pub(super) fn jobs(&self) -> usize {
        self.blocking.jobs.len() + self.asynchronous.jobs.len()
    }

    /// An inline call of this client is about to be added, behind the others. Returns a block for it, if there is one.
    #[inline(always)]
    pub(super) fn inline_comes(&mut self, client: ClientKey) -> Option<Shell> {
        if self.inline_client != Some(client) {
            self.inline_client = Some(client);
            self.inline_changes += usize::from(!self.inline.jobs.is_empty());
        }
        self.inline_shells.pop()
    }

    /// Gives all calls their payloads.
    pub(super) fn complete(&mut self) {
        if self.payloads.bytes.is_empty() {
            return;
        }
        let shared = self.payloads.take();
        for lot in [&mut self.blocking, &mut self.asynchronous, &mut self.inline] {
            for (job, payload) in lot.payloads.drain(..) {
                lot.jobs[job].payload = Payload::within(shared.clone(), payload);
            }
            lot.payloads.shrink_to(KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_how_often_the_client_changes_among_inline_calls() {
        let mut collected = Collected::default();
        for slot in [1, 1, 2, 2, 1] {
            let client = ClientKey { slot, generation: 0 };
            let mut job = Job::for_test(7);
            job.ticket.client = client;
            collected.inline_comes(client);
            collected.inline.jobs.push_back(job);
        }
        assert_eq!((collected.inline.jobs.len(), collected.inline_changes), (5, 2));
    }
}
