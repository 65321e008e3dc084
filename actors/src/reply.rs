//! Replies on their way back: what travels from workers to hubs.
//!
//! Replies that are ready together travel in one message per hub and lie behind each other in one buffer, so that
//! those of one client leave in one write. A big reply travels in a buffer of its own and is never copied. With each
//! goes what the statistics want to know of its call.
//!
//! The thread that ran the calls writes their replies itself where it can ([`Replies::decide`], then [`Sent::write`]):
//! the hub learns first that the calls are answered, so that nobody who has seen a reply can find it uncounted, then
//! what of it was written.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use crate::hub::line::{Lines, Written};
use crate::job::{ClientKey, Shell, Ticket};
use crate::runs::{MOST_EXPECTED, OWN_BUFFER, Run, Runs};
use crate::stage::{CallRef, Stages};
use crate::stats::buckets::{Bucket, bucket};
use crate::stats::outcome::Verdict;
use crate::time::Instant;

/// When so many replies are ready they leave before the calls behind them run, if all these are of few clients, so that
/// the clients go on meanwhile: few writes for many replies, and yet a batch of 64 calls keeps both sides at work.
/// Measured with 8 to 64: 32 and more leave the client idle for longer, 8 costs a worker more in writes than it brings.
/// Of many clients the first have enough to do with what they get at the end, and each write in between may wake a thread.
pub(crate) const EARLY: usize = 16;

/// ... and when the first of them has waited for so long on a worker's thread: then what the client is woken for is worth
/// waking it, how ever quick the calls are. With 64 calls of 0.35 µs at once, 6 µs brought a quarter more of them than
/// nothing did, for a fifth less of the service's time; 9 µs and more left a client of many instructions idle for too long.
const EARLY_NS: u64 = 6_000;

/// So many clients' replies a thread writes itself, of those that are ready together; and of more, if they are
/// [`LONG`] for each client. When there are more, the hub's thread is awake most likely, and this one goes on with calls
/// while that one writes: with 256 clients of one call each the service took a twentieth more CPU time when the workers
/// wrote everything, with 16 of 16 calls each a twentieth less.
pub(crate) const FEW: usize = 2;

/// So many replies for each client are worth a write of the worker's own, on the average.
const LONG: usize = 8;

/// Room for so many replies, and so many bytes of them, is used again.
const KEPT: usize = 256;
const KEPT_BYTES: usize = 16 * 1024;

/// Replies for the clients of one hub, in the order in which they became ready.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    shared: Vec<u8>,
    /// The calls that are done.
    done: Vec<Done>,
    /// What belongs to each of these, in the same order; nothing of them all where the thread that ran the calls writes
    /// all replies, so that no more travels from its core to the hub's than that needs.
    items: Vec<Item>,
    /// The blocks of jobs that are done with, on their way back to the hub that they came from.
    shells: Vec<Shell>,
    /// How often the next reply was for another client than the one before.
    changes: usize,
    /// When the first of them was ready.
    since: Option<Instant>,
    /// How much was taken last, to allocate about right.
    expected: (usize, usize),
}

/// The reply to a call that is done.
#[derive(Debug)]
pub(crate) struct Item {
    client: ClientKey,
    body: Body,
    /// Held against the client while the call ran.
    cost: u32,
    /// The procedure, and who called it, for the statistics and the log.
    entry: u32,
    client_id: u64,
}

/// Replies on their way out of a worker, by hub; and room for more while there are none.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) by_hub: Vec<Replies>,
    /// Whether there are any.
    pub(crate) is_due: bool,
    /// Room for what the worker writes of them.
    pub(crate) sent: Vec<Sent>,
}

impl Outbox {
    /// For so many hubs.
    pub(crate) fn new(hubs: usize) -> Self {
        let by_hub = std::iter::repeat_with(Replies::default).take(hubs).collect();
        Self { by_hub, ..Self::default() }
    }

    /// What there is, by hub.
    pub(crate) fn take(&mut self) -> Vec<Replies> {
        self.is_due = false;
        std::mem::take(&mut self.by_hub)
    }
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
    /// Whether the statistics have it: who writes a reply counts it before.
    pub(crate) is_counted: bool,
}

#[derive(Debug)]
enum Body {
    /// The next bytes of the shared buffer.
    Shared(usize),
    Own(Vec<u8>),
    /// There is none: the call was answered before, and has ended now.
    None,
    /// The thread that ran the call writes it.
    Elsewhere,
}

/// Replies to one client that the thread which ran their calls writes.
#[derive(Debug)]
pub(crate) struct Sent {
    client_id: u64,
    pub(crate) client: ClientKey,
    /// Where they lie in the buffer of the thread that writes them, if they lie there.
    range: Range<usize>,
    /// What the hub may have to write; nothing once all of it was written.
    pub(crate) bytes: Bytes,
    /// How many of the bytes that there are were written. The hub writes the others.
    pub(crate) written: usize,
    pub(crate) replies: usize,
    /// The sum of the costs of their calls.
    pub(crate) cost: u64,
}

impl Sent {
    /// Writes what the client's socket takes now; `buffer` is that of the decision. Whether the hub wants to know of it at
    /// once.
    pub(crate) fn write(&mut self, lines: &Lines, buffer: &[u8]) -> bool {
        let whole = self.whole(buffer);
        if whole.is_empty() {
            // Nobody wants to read them: the calls are over.
            return true;
        }
        let Written { bytes, presses } = lines.write(self.client, whole);
        log::trace!(
            client = self.client_id;
            "their worker writes {} replies, {bytes} of {} bytes", self.replies, whole.len()
        );
        let is_whole = bytes == whole.len();
        if is_whole {
            // The hub has no use for them.
            self.bytes = Bytes::new();
        } else {
            if self.bytes.is_empty() {
                self.bytes = Bytes::copy_from_slice(whole);
            }
            self.written = bytes;
        }
        presses || !is_whole
    }

    /// All of them.
    fn whole<'a>(&'a self, buffer: &'a [u8]) -> &'a [u8] {
        if self.bytes.is_empty() { &buffer[self.range.clone()] } else { &self.bytes }
    }
}

impl Done {
    fn new(ticket: &Ticket, verdict: Verdict, has_run: bool, now: Instant) -> Self {
        if has_run {
            return Self::ran(ticket, verdict, now.nanos_since(ticket.begun));
        }
        let queued = bucket(now.nanos_since(ticket.received));
        Self { call: ticket.call, verdict, queued, ran: None, is_counted: false }
    }

    /// A call that a handler ran for so many nanoseconds.
    pub(crate) fn ran(ticket: &Ticket, verdict: Verdict, took: u64) -> Self {
        let queued = bucket(ticket.begun.nanos_since(ticket.received));
        Self { call: ticket.call, verdict, queued, ran: Some(bucket(took)), is_counted: false }
    }
}

impl Item {
    fn new(ticket: &Ticket, body: Body) -> Self {
        let Ticket { client, cost, entry, client_id, .. } = *ticket;
        Self { client, body, cost, entry, client_id }
    }
}

impl Replies {
    pub(crate) fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.done.len()
    }

    /// Whether what there is leaves before more calls run, those of `changes` clients more.
    pub(crate) fn is_ripe(&self, changes: usize, now: Instant) -> bool {
        self.done.len() >= EARLY
            && self.changes + changes < FEW
            && self.since.is_some_and(|since| now.nanos_since(since) >= EARLY_NS)
    }

    /// Whether the thread that ran the calls writes their replies.
    fn is_for_few(&self) -> bool {
        self.changes < FEW || self.done.len() >= LONG * (self.changes + 1)
    }

    /// What there is. What comes next gets room that was used before, and is expected to be about as much.
    pub(crate) fn take_for(&mut self, mut room: Self) -> Self {
        debug_assert!(room.is_empty());
        room.expected = (self.shared.len().min(MOST_EXPECTED), self.done.len());
        std::mem::replace(self, room)
    }

    /// Empty, with the room that it has, unless that is much.
    pub(crate) fn cleared(mut self) -> Self {
        let is_much = self.done.capacity() > KEPT || self.shared.capacity() > KEPT_BYTES;
        if is_much {
            return Self::default();
        }
        self.shared.clear();
        self.done.clear();
        self.items.clear();
        self.shells.clear();
        self.changes = 0;
        self
    }

    /// Gives it this buffer, if it has none and it is not big.
    pub(crate) fn set_room(&mut self, mut shared: Vec<u8>) {
        if self.shared.capacity() == 0 && shared.capacity() <= KEPT_BYTES {
            shared.clear();
            self.shared = shared;
        }
    }

    /// After [`Self::decide`], where nothing is left for the hub: it needs only to know which calls are done.
    pub(crate) fn take_items(&mut self) -> Vec<Item> {
        let mut items = std::mem::take(&mut self.items);
        items.clear();
        items
    }

    /// Gives it this room, if it has none.
    pub(crate) fn set_items(&mut self, items: Vec<Item>) {
        if self.items.capacity() == 0 && items.capacity() <= KEPT {
            self.items = items;
        }
    }

    /// Adds the reply of a handler, one whole packet, and leaves `packet` empty.
    pub(crate) fn push(&mut self, ticket: &Ticket, verdict: Verdict, now: Instant, packet: &mut Vec<u8>) {
        self.add(ticket, Done::new(ticket, verdict, true, now), now, packet);
    }

    /// Adds the reply to a call that no handler has begun with, one whole packet, and leaves `packet` empty.
    pub(crate) fn refuse(&mut self, ticket: &Ticket, verdict: Verdict, now: Instant, packet: &mut Vec<u8>) {
        self.add(ticket, Done::new(ticket, verdict, false, now), now, packet);
    }

    /// The job of a call is done with.
    pub(crate) fn give_back(&mut self, shell: Shell) {
        self.shells.push(shell);
    }

    /// Takes the blocks that came back, as far as there may be that many.
    pub(crate) fn take_shells(&mut self, shells: &mut VecDeque<Shell>, most: usize) {
        let room = most.saturating_sub(shells.len()).min(self.shells.len());
        shells.extend(self.shells.drain(..room));
    }

    /// A call that was answered before has ended now.
    pub(crate) fn gone(&mut self, ticket: &Ticket, now: Instant) {
        let done = Done::new(ticket, Verdict::OK, true, now);
        self.done.push(done);
        self.items.push(Item::new(ticket, Body::None));
    }

    fn add(&mut self, ticket: &Ticket, done: Done, now: Instant, packet: &mut Vec<u8>) {
        if self.done.is_empty() {
            let (bytes, items) = std::mem::take(&mut self.expected);
            self.shared.reserve(bytes);
            self.done.reserve(items);
            self.items.reserve(items);
            self.shells.reserve(items);
            self.since = Some(now);
        }
        let body = if packet.len() < OWN_BUFFER {
            self.shared.extend_from_slice(packet);
            let body = Body::Shared(packet.len());
            packet.clear();
            body
        } else {
            Body::Own(std::mem::take(packet))
        };
        if self.items.last().is_some_and(|last| last.client != ticket.client) {
            self.changes += 1;
        }
        self.done.push(done);
        self.items.push(Item::new(ticket, body));
    }

    /// Decides which of the replies the caller writes, who ran their calls: from here on nobody ends those. What is left
    /// here is for the hub, which has to get it before the first of them is written; also, whether some of the calls
    /// that are left take more of the hub than a note, and the buffer that the caller's lie in. The hub writes all where
    /// many clients wait. `count` gets the procedure of each call that was decided. `sent` is empty.
    pub(crate) fn decide(
        &mut self,
        stages: &Stages,
        sent: &mut Vec<Sent>,
        mut count: impl FnMut(u32, &Done),
    ) -> (Vec<u8>, bool) {
        if !self.is_for_few() {
            return (Vec::new(), true);
        }
        let mut is_left = false;
        let shared = std::mem::take(&mut self.shared);
        // What the hub is to write after all, behind each other again.
        let mut left: Vec<u8> = Vec::new();
        let mut start = 0;
        for (item, done) in self.items.iter_mut().zip(&mut self.done) {
            let range = start..start + item.body.shared();
            start = range.end;
            if matches!(item.body, Body::None) || !stages.answer(done.call) {
                left.extend_from_slice(&shared[range]);
                is_left = true;
                continue;
            }
            done.is_counted = true;
            count(item.entry, done);
            let cost = u64::from(item.cost);
            let body = std::mem::replace(&mut item.body, Body::Elsewhere);
            if let (Some(last), Body::Shared(_)) = (sent.last_mut(), &body)
                && last.client == item.client
                && last.bytes.is_empty()
                && last.range.end == range.start
            {
                last.range.end = range.end;
                last.replies += 1;
                last.cost += cost;
                continue;
            }
            let (bytes, range) = match body {
                Body::Own(bytes) => (Bytes::from(bytes), 0..0),
                _ => (Bytes::new(), range),
            };
            let (client, client_id) = (item.client, item.client_id);
            sent.push(Sent { client_id, client, range, bytes, written: 0, replies: 1, cost });
        }
        self.shared = left;
        (shared, is_left)
    }

    /// Hands the replies out, those of each client together. `take` says of each call, in order, what it has cost its
    /// client, or `None` if nobody waits for its reply.
    pub(crate) fn for_each_run(&mut self, mut take: impl FnMut(&Done) -> Option<u32>, deliver: impl FnMut(Run<'_>)) {
        if self.items.is_empty() {
            // Others write the replies.
            return self.done.drain(..).for_each(|done| _ = take(&done));
        }
        let mut runs = Runs::within(std::mem::take(&mut self.shared));
        let mut start = 0;
        debug_assert_eq!(self.done.len(), self.items.len());
        for (done, Item { client, body, .. }) in self.done.drain(..).zip(self.items.drain(..)) {
            let cost = take(&done);
            let range = start..start + body.shared();
            start = range.end;
            let Some(cost) = cost else { continue };
            match body {
                Body::Shared(_) => runs.add(client, range, cost),
                Body::Own(bytes) => runs.add_own(client, bytes.into(), cost),
                // Such a call was answered before, so nobody waits for it; or its reply takes another way.
                Body::None | Body::Elsewhere => {}
            }
        }
        runs.hand_out(deliver);
        self.shared = runs.into_buffer();
    }
}

impl Body {
    /// How many of the shared bytes are its own.
    fn shared(&self) -> usize {
        if let Self::Shared(length) = self { *length } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(slot: u32, cost: u32) -> Ticket {
        Ticket::for_test(ClientKey { slot, generation: 0 }, cost, cost)
    }

    /// Client, bytes, replies and cost of each run.
    fn runs(mut replies: Replies, unwanted: &[u32]) -> Vec<(u32, Vec<u8>, usize, u64)> {
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
    fn replies_of_one_client_become_one_run_in_their_order_but_for_big_ones() {
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
                (1, b"aabe".to_vec(), 3, 80),
                (2, b"ccc".to_vec(), 1, 30),
                (2, vec![b'x'; OWN_BUFFER], 1, 1),
                (2, b"d".to_vec(), 1, 40),
            ]
        );
    }

    #[test]
    fn who_ran_the_calls_writes_what_nobody_has_ended_and_leaves_the_rest_to_the_hub() {
        let stages = Stages::default();
        let mut replies = Replies::default();
        let bodies: [(u32, u32, &[u8]); 7] = [
            (1, 10, b"aa"),
            (1, 20, b"b"),
            (1, 30, b"ended"),
            (1, 40, b"c"),
            (2, 50, &[b'x'; OWN_BUFFER]),
            (2, 60, b"d"),
            (2, 70, b"not begun"),
        ];
        for (client, call, body) in bodies {
            let ticket = ticket(client, call);
            stages.open(ticket.call);
            assert!(call == 70 || stages.begin(ticket.call));
            push(&mut replies, &ticket, body);
        }
        assert!(stages.end(ticket(1, 30).call).is_some());
        let mut counted = Vec::new();
        let mut sent = Vec::new();
        let (buffer, is_left) = replies.decide(&stages, &mut sent, |_, done| counted.push(done.call.slot));
        assert_eq!(counted, [10, 20, 40, 50, 60]);
        assert!(is_left);
        let sent: Vec<_> =
            sent.iter().map(|run| (run.client.slot, run.whole(&buffer).to_vec(), run.replies, run.cost)).collect();
        assert_eq!(
            sent,
            [
                (1, b"aab".to_vec(), 2, 30),
                (1, b"c".to_vec(), 1, 40),
                (2, vec![b'x'; OWN_BUFFER], 1, 50),
                (2, b"d".to_vec(), 1, 60),
            ]
        );
        assert_eq!(stages.end(ticket(1, 10).call), None);
        assert_eq!(runs(replies, &[30]), [(2, b"not begun".to_vec(), 1, 70)]);
    }

    #[test]
    fn room_is_used_again_unless_it_is_much() {
        let mut replies = Replies::default();
        push(&mut replies, &ticket(1, 10), b"aa");
        replies.for_each_run(|_| None, |_| {});
        let room = replies.cleared();
        assert!(room.is_empty() && room.items.capacity() > 0 && room.shared.capacity() > 0);
        let mut room = Replies::default();
        let mut buffer = Vec::with_capacity(100);
        buffer.extend_from_slice(b"written");
        room.set_room(Vec::with_capacity(KEPT_BYTES + 1));
        assert_eq!(room.shared.capacity(), 0, "it is big");
        room.set_room(buffer);
        assert!(room.shared.is_empty() && room.shared.capacity() == 100);
        room.set_room(Vec::with_capacity(200));
        assert_eq!(room.shared.capacity(), 100, "it has some");
        room.shared.reserve(KEPT_BYTES + 1);
        assert_eq!(room.cleared().shared.capacity(), 0);
        let mut many = Replies::default();
        (0..=KEPT as u32).for_each(|call| push(&mut many, &ticket(1, call), b"a"));
        assert_eq!(many.cleared().items.capacity(), 0);
    }

    #[test]
    fn a_reply_that_nobody_waits_for_is_left_out_and_one_without_bytes_is_by_itself() {
        let mut replies = Replies::default();
        push(&mut replies, &ticket(1, 10), b"aa");
        push(&mut replies, &ticket(1, 20), b"b");
        replies.gone(&ticket(1, 40), Instant::now());
        push(&mut replies, &ticket(1, 30), b"cc");
        push(&mut replies, &ticket(1, 50), b"");
        push(&mut replies, &ticket(1, 60), b"d");
        let expected = [(1, b"aacc".to_vec(), 2, 40), (1, Vec::new(), 1, 50), (1, b"d".to_vec(), 1, 60)];
        assert_eq!(runs(replies, &[20, 40]), expected);
    }
}
