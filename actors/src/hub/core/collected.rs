//! What the readers of an arbiter have accepted in one turn of its loop, until the hub hands it on.
//!
//! Plain data, filled by the readers' [`HubSink`](super::sink::HubSink) and emptied in the same turn. Bound: what the
//! readers of one turn may accept (`max_client_requests` each).

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::hub::inline::{Lies, Waiting};
use crate::job::{Job, Payload, SHARED_PAYLOAD};
use crate::reader::client::Arguments;

/// So much room for calls is kept from one turn to the next, and so many blocks for jobs.
pub(super) const KEPT: usize = 1024;

/// The calls of one turn.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) blocking: Lot,
    pub(super) asynchronous: Lot,
    pub(super) inline: VecDeque<Waiting>,
    /// So many of them have records: those that came before somebody looked for one.
    pub(super) taken_down: usize,
    /// How often the next inline call is of another client than the one before.
    pub(super) inline_changes: usize,
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
    /// Puts a payload behind the others, unless it is big.
    pub(super) fn lay(&mut self, arguments: Arguments<'_>) -> Lies {
        match arguments {
            Arguments::Borrowed(bytes) if bytes.len() < SHARED_PAYLOAD => {
                let start = self.bytes.len();
                if start == 0 {
                    self.bytes.reserve(self.expected);
                }
                self.bytes.extend_from_slice(bytes);
                Lies::Together(start..self.bytes.len())
            }
            Arguments::Borrowed(bytes) => Lies::Apart(Bytes::copy_from_slice(bytes)),
            Arguments::Owned(bytes) => Lies::Apart(bytes),
        }
    }

    fn take(&mut self) -> Bytes {
        if self.bytes.is_empty() {
            return Bytes::new();
        }
        self.expected = self.bytes.len();
        let taken = self.bytes.split().freeze();
        if self.expected > KEPT_BYTES {
            self.bytes = BytesMut::new();
        }
        taken
    }
}

/// The calls of one class. A job whose payload lies in the buffer is without it until the turn is over.
#[derive(Debug, Default)]
pub(super) struct Lot {
    pub(super) jobs: VecDeque<Job>,
    /// Where payloads lie in the buffer, each with the index of its job.
    pub(super) payloads: Vec<(usize, Range<usize>)>,
}

impl Collected {
    pub(super) fn is_empty(&self) -> bool {
        self.inline.is_empty() && self.jobs() == 0
    }

    /// How many calls there are for other threads.
    pub(super) fn jobs(&self) -> usize {
        self.blocking.jobs.len() + self.asynchronous.jobs.len()
    }

    /// Adds an inline call, behind the others.
    pub(super) fn add_inline(&mut self, waiting: Waiting) {
        let is_change = self.inline.back().is_some_and(|last| last.peer.client_id() != waiting.peer.client_id());
        self.inline_changes += usize::from(is_change);
        self.inline.push_back(waiting);
    }

    /// Gives all jobs their payloads. Returns the buffer in which they lie.
    pub(super) fn complete(&mut self) -> Bytes {
        let shared = self.payloads.take();
        for lot in [&mut self.blocking, &mut self.asynchronous] {
            for (job, payload) in lot.payloads.drain(..) {
                lot.jobs[job].payload = Payload::within(shared.clone(), payload);
            }
            lot.payloads.shrink_to(KEPT);
        }
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{ClientKey, Ticket};
    use crate::peer::{Peer, Transport};

    #[test]
    fn it_is_known_how_often_the_client_changes_among_inline_calls() {
        let mut collected = Collected::default();
        for client in [1, 1, 2, 2, 1] {
            let ticket = Ticket::for_test(ClientKey { slot: 0, generation: 0 }, 1, 28);
            let (peer, arguments) = (Peer::new(client, Transport::Unix, None), Lies::Together(0..0));
            collected.add_inline(Waiting { ticket, peer, arguments });
        }
        assert_eq!((collected.inline.len(), collected.inline_changes), (5, 2));
    }
}
