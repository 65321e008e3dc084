//! Replies on their way back: what travels from workers to hubs.
//!
//! Replies that are ready together travel in one message per hub and lie behind each other in one buffer, so that
//! those of one client leave in one write. A big reply travels in a buffer of its own and is never copied. With each
//! goes what the statistics want to know of its call.

use std::time::Instant;

use bytes::Bytes;

use crate::job::{ClientKey, Shell, Ticket};
use crate::stage::CallRef;
use crate::stats::buckets::{Bucket, bucket};
use crate::stats::outcome::Verdict;

/// From this size on a reply keeps its own buffer; below it, copying is cheaper than another buffer.
const OWN_BUFFER: usize = 16 * 1024;

/// No more than this is reserved for replies to come: those of one busy client say little of the next ones.
const MOST_EXPECTED: usize = 64 * 1024;

/// Replies for the clients of one hub, in the order in which they became ready.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    shared: Vec<u8>,
    items: Vec<Item>,
    /// The blocks of jobs that are done with, on their way back to the hub that they came from.
    shells: Vec<Shell>,
    /// How much was taken last, to allocate about right.
    expected: (usize, usize),
}

#[derive(Debug)]
struct Item {
    client: ClientKey,
    done: Done,
    body: Body,
}

/// A call that is done, for its hub.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) call: CallRef,
    pub(crate) verdict: Verdict,
    /// From its receipt until a handler began with it.
    pub(crate) queued: Bucket,
    /// From then until its reply; none if no handler ran.
    pub(crate) ran: Option<Bucket>,
}

#[derive(Debug)]
enum Body {
    /// The next bytes of the shared buffer.
    Shared(usize),
    Own(Vec<u8>),
    /// There is none: the call was answered before, and has ended now.
    None,
}

/// Replies to one client that lie behind each other.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) client: ClientKey,
    pub(crate) bytes: Bytes,
    /// The size of the buffer that these bytes share with others.
    pub(crate) buffer: usize,
    /// How many replies these are.
    pub(crate) replies: usize,
    /// The sum of the costs of their calls.
    pub(crate) cost: u64,
}

impl Done {
    fn new(ticket: &Ticket, verdict: Verdict, has_run: bool, now: Instant) -> Self {
        let until = if has_run { ticket.begun } else { now };
        let queued = bucket(until.saturating_duration_since(ticket.received));
        let ran = has_run.then(|| bucket(now.saturating_duration_since(ticket.begun)));
        Self { call: ticket.call, verdict, queued, ran }
    }
}

impl Replies {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What there is. What comes next is expected to be about as much.
    pub(crate) fn take(&mut self) -> Self {
        let expected = (self.shared.len().min(MOST_EXPECTED), self.items.len());
        std::mem::replace(self, Self { expected, ..Self::default() })
    }

    /// Adds the reply of a handler, one whole packet, and leaves `packet` empty.
    pub(crate) fn push(&mut self, ticket: &Ticket, verdict: Verdict, now: Instant, packet: &mut Vec<u8>) {
        self.add(ticket.client, Done::new(ticket, verdict, true, now), packet);
    }

    /// Adds the reply to a call that no handler has begun with, one whole packet, and leaves `packet` empty.
    pub(crate) fn refuse(&mut self, ticket: &Ticket, verdict: Verdict, now: Instant, packet: &mut Vec<u8>) {
        self.add(ticket.client, Done::new(ticket, verdict, false, now), packet);
    }

    /// The job of a call is done with.
    pub(crate) fn give_back(&mut self, shell: Shell) {
        self.shells.push(shell);
    }

    /// Takes the blocks that came back, as far as there may be that many.
    pub(crate) fn take_shells(&mut self, shells: &mut Vec<Shell>, most: usize) {
        let room = most.saturating_sub(shells.len()).min(self.shells.len());
        shells.extend(self.shells.drain(..room));
    }

    /// A call that was answered before has ended now.
    pub(crate) fn gone(&mut self, ticket: &Ticket, now: Instant) {
        let done = Done::new(ticket, Verdict::OK, true, now);
        self.items.push(Item { client: ticket.client, done, body: Body::None });
    }

    fn add(&mut self, client: ClientKey, done: Done, packet: &mut Vec<u8>) {
        if self.items.is_empty() {
            let (bytes, items) = std::mem::take(&mut self.expected);
            self.shared.reserve(bytes);
            self.items.reserve(items);
            self.shells.reserve(items);
        }
        let body = if packet.len() < OWN_BUFFER {
            self.shared.extend_from_slice(packet);
            let body = Body::Shared(packet.len());
            packet.clear();
            body
        } else {
            Body::Own(std::mem::take(packet))
        };
        self.items.push(Item { client, done, body });
    }

    /// Hands the replies out, those of one client that follow each other as one run. `take` says of each call, in
    /// order, what it has cost its client, or `None` if nobody waits for its reply.
    pub(crate) fn for_each_run(self, mut take: impl FnMut(&Done) -> Option<u32>, mut deliver: impl FnMut(Run)) {
        // Not the length: whoever keeps a part of the buffer keeps all that was reserved for it.
        let capacity = self.shared.capacity();
        let shared = Bytes::from(self.shared);
        let mut run: Option<(Run, std::ops::Range<usize>)> = None;
        let mut deliver = |run: Option<(Run, std::ops::Range<usize>)>| {
            if let Some((run, range)) = run {
                let bytes = if range.is_empty() { run.bytes } else { shared.slice(range) };
                deliver(Run { bytes, ..run });
            }
        };
        let mut start = 0;
        for Item { client, done, body } in self.items {
            let cost = take(&done);
            let range = start..start + if let Body::Shared(length) = body { length } else { 0 };
            start = range.end;
            let Some(cost) = cost.map(u64::from) else { continue };
            if let Some((run, bytes)) = &mut run
                && run.client == client
                && bytes.start < bytes.end
                && bytes.end == range.start
                && range.start < range.end
            {
                bytes.end = range.end;
                run.replies += 1;
                run.cost += cost;
                continue;
            }
            deliver(run.take());
            let (bytes, buffer) = match body {
                Body::Own(bytes) => (Bytes::from(bytes), 0),
                Body::Shared(_) => (Bytes::new(), capacity),
                // Such a call was answered before, so nobody waits for it.
                Body::None => continue,
            };
            run = Some((Run { client, bytes, buffer, replies: 1, cost }, range));
        }
        deliver(run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(slot: u32, cost: u32) -> Ticket {
        Ticket::for_test(ClientKey { slot, generation: 0 }, cost, cost)
    }

    /// Client, bytes, replies and cost of each run.
    fn runs(replies: Replies, unwanted: &[u32]) -> Vec<(u32, Vec<u8>, usize, u64)> {
        let mut runs = Vec::new();
        // Tickets have their cost as slot of the call.
        replies.for_each_run(
            |done| (!unwanted.contains(&done.call.slot)).then_some(done.call.slot),
            |run| runs.push((run.client.slot, run.bytes.to_vec(), run.replies, run.cost)),
        );
        runs
    }

    fn push(replies: &mut Replies, ticket: &Ticket, bytes: &[u8]) {
        replies.push(ticket, Verdict::OK, Instant::now(), &mut bytes.to_vec());
    }

    #[test]
    fn replies_of_one_client_that_follow_each_other_become_one_run() {
        let mut replies = Replies::default();
        push(&mut replies, &ticket(1, 10), b"aa");
        push(&mut replies, &ticket(1, 20), b"b");
        push(&mut replies, &ticket(2, 30), b"ccc");
        push(&mut replies, &ticket(2, 1), &[b'x'; OWN_BUFFER]);
        push(&mut replies, &ticket(2, 40), b"d");
        push(&mut replies, &ticket(1, 50), b"e");
        assert_eq!(
            runs(replies, &[]),
            [
                (1, b"aab".to_vec(), 2, 30),
                (2, b"ccc".to_vec(), 1, 30),
                (2, vec![b'x'; OWN_BUFFER], 1, 1),
                (2, b"d".to_vec(), 1, 40),
                (1, b"e".to_vec(), 1, 50),
            ]
        );
    }

    #[test]
    fn a_reply_that_nobody_waits_for_is_left_out_and_splits_the_run() {
        let mut replies = Replies::default();
        push(&mut replies, &ticket(1, 10), b"aa");
        push(&mut replies, &ticket(1, 20), b"b");
        replies.gone(&ticket(1, 40), Instant::now());
        push(&mut replies, &ticket(1, 30), b"cc");
        assert_eq!(runs(replies, &[20, 40]), [(1, b"aa".to_vec(), 1, 10), (1, b"cc".to_vec(), 1, 30)]);
    }
}
