//! Replies that are about to be written: those of one client together, in one buffer where they are small.
//!
//! Plain data, filled and handed out by one thread. Its bound is that of the calls whose replies they are.

use std::ops::{Deref, Range};

use bytes::Bytes;

use crate::job::ClientKey;

/// From this size on a reply has its own buffer; below it, it lies with others: to copy it is cheaper than another buffer.
pub(crate) const OWN_BUFFER: usize = 16 * 1024;

/// No more than this is reserved for replies to come: those of one busy client say little of the next ones.
pub(crate) const MOST_EXPECTED: usize = 64 * 1024;

/// Room for so many bytes is kept, and for so many pieces.
const KEPT_BYTES: usize = MOST_EXPECTED;
const KEPT: usize = 1024;

/// Replies to one client that lie behind each other.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) client: ClientKey,
    pub(crate) bytes: RunBytes<'a>,
    /// How many replies these are.
    pub(crate) replies: usize,
    /// The sum of the costs of their calls.
    pub(crate) cost: u64,
}

/// Where the bytes of a run lie.
#[derive(Debug)]
pub(crate) enum RunBytes<'a> {
    /// In a buffer that is used for others next.
    Lent(&'a [u8]),
    /// In one that is theirs.
    Held(Bytes),
}

impl RunBytes<'_> {
    /// What is left behind the first `written`, for a client that is slow to take it. It must not hold a buffer that is used
    /// for others next.
    pub(crate) fn rest(self, written: usize) -> Bytes {
        match self {
            Self::Held(bytes) => bytes.slice(written..),
            bytes => Bytes::copy_from_slice(&bytes[written..]),
        }
    }
}

impl Deref for RunBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Held(bytes) => bytes,
        }
    }
}

/// Replies in the order in which they became ready.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    shared: Vec<u8>,
    pieces: Vec<Piece>,
    /// Room for pieces of one client that do not lie behind each other.
    joined: Vec<u8>,
    /// Where the last reply ends in the shared buffer that was lent.
    filled: usize,
    replies: usize,
}

/// Replies to one client that were ready one after the other.
#[derive(Debug)]
struct Piece {
    client: ClientKey,
    /// Where they lie in the shared buffer.
    range: Range<usize>,
    own: Option<Bytes>,
    replies: usize,
    cost: u64,
}

impl Piece {
    /// Whether it has bytes in the shared buffer.
    fn is_shared(&self) -> bool {
        !self.range.is_empty()
    }

    /// Whether a reply of the same client lies behind these. Nothing joins one without bytes: it does not wait for a
    /// socket.
    fn joins(&self, range: &Range<usize>) -> bool {
        self.is_shared() && self.range.end == range.start && !range.is_empty()
    }
}

impl Runs {
    /// Replies that lie in `shared`, of which none is in it yet.
    pub(crate) fn within(shared: Vec<u8>) -> Self {
        Self { shared, ..Self::default() }
    }

    /// How many replies there are.
    pub(crate) fn replies(&self) -> usize {
        self.replies
    }

    /// Lends the shared buffer, for replies to be written where they will leave from: behind those that lie there.
    pub(crate) fn lend(&mut self) -> Vec<u8> {
        if self.shared.len() != self.filled {
            self.give_up();
        }
        std::mem::take(&mut self.shared)
    }

    /// The shared buffer was lost on the way, which is a defect of this crate: rather no replies than those of others.
    #[cold]
    fn give_up(&mut self) {
        *self = Self::default();
    }

    /// Takes the shared buffer back, without what was written behind the replies that lay there.
    pub(crate) fn keep(&mut self, mut shared: Vec<u8>) {
        self.drop_last(&mut shared);
        self.shared = shared;
    }

    /// Nobody wants what was written last into the shared buffer, which is lent.
    pub(crate) fn drop_last(&self, shared: &mut Vec<u8>) {
        shared.truncate(self.filled);
    }

    /// There is one reply more in the shared buffer, which is lent.
    #[inline(always)]
    pub(crate) fn push(&mut self, client: ClientKey, shared: &mut Vec<u8>, cost: u32) {
        let range = self.filled..shared.len();
        if range.len() >= OWN_BUFFER {
            return self.push_big(client, shared, range, cost);
        }
        self.filled = range.end;
        self.add(client, range, cost);
    }

    #[cold]
    fn push_big(&mut self, client: ClientKey, shared: &mut Vec<u8>, range: Range<usize>, cost: u32) {
        // It is not copied if most of the buffer is its own: a client that is slow to take it holds no more than twice that.
        let bytes = if shared.capacity() <= 2 * range.len() {
            let others = shared[..range.start].to_vec();
            Bytes::from(std::mem::replace(shared, others)).slice(range)
        } else {
            let reply = Bytes::copy_from_slice(&shared[range]);
            self.drop_last(shared);
            reply
        };
        self.add_own(client, bytes, cost);
    }

    /// Adds a reply that lies in the shared buffer.
    #[inline]
    pub(crate) fn add(&mut self, client: ClientKey, range: Range<usize>, cost: u32) {
        self.replies += 1;
        let cost = u64::from(cost);
        match self.pieces.last_mut() {
            Some(last) if last.client == client && last.joins(&range) => {
                last.range.end = range.end;
                last.replies += 1;
                last.cost += cost;
            }
            _ => self.pieces.push(Piece { client, range, own: None, replies: 1, cost }),
        }
    }

    /// Adds a reply with a buffer of its own.
    pub(crate) fn add_own(&mut self, client: ClientKey, bytes: Bytes, cost: u32) {
        self.replies += 1;
        let cost = cost.into();
        self.pieces.push(Piece { client, range: 0..0, own: Some(bytes), replies: 1, cost });
    }

    /// [`Self::hand_out`] while the shared buffer is lent.
    pub(crate) fn hand_out_from(&mut self, shared: &mut Vec<u8>, deliver: impl FnMut(Run<'_>)) {
        std::mem::swap(&mut self.shared, shared);
        self.hand_out(deliver);
        std::mem::swap(&mut self.shared, shared);
    }

    /// Hands the replies out, all of one client as one run if they lie in the shared buffer, so that they leave in one
    /// write. None are left; their room is, unless it is much.
    pub(crate) fn hand_out(&mut self, mut deliver: impl FnMut(Run<'_>)) {
        // Whatever happens on the way, nothing is handed out twice.
        let mut pieces = std::mem::take(&mut self.pieces);
        let Self { shared, joined, replies, filled, .. } = self;
        *replies = 0;
        if let [Piece { client, range, own: None, replies, cost }] = &pieces[..]
            && shared.capacity() <= KEPT_BYTES
        {
            // Replies to one client, as in most turns: none of what follows.
            let bytes = RunBytes::Lent(&shared[range.clone()]);
            deliver(Run { client: *client, bytes, replies: *replies, cost: *cost });
            pieces.clear();
            shared.clear();
            *filled = 0;
            self.pieces = pieces;
            return;
        }
        if pieces.len() > 2 {
            // Calls of several clients that were taken in turns. The order within each client stays.
            pieces.sort_by_key(|piece| piece.client);
        }
        let mut left = pieces.drain(..).peekable();
        while let Some(first) = left.next() {
            let Piece { client, range, own, mut replies, mut cost } = first;
            if let Some(bytes) = own {
                let bytes = RunBytes::Held(bytes);
                deliver(Run { client, bytes, replies, cost });
                continue;
            }
            let has_bytes = !range.is_empty();
            let follows = |piece: &Piece| has_bytes && piece.client == client && piece.is_shared();
            if !left.peek().is_some_and(follows) {
                deliver(Run { client, bytes: RunBytes::Lent(&shared[range]), replies, cost });
                continue;
            }
            joined.clear();
            joined.extend_from_slice(&shared[range]);
            while let Some(piece) = left.next_if(follows) {
                joined.extend_from_slice(&shared[piece.range]);
                replies += piece.replies;
                cost += piece.cost;
            }
            deliver(Run { client, bytes: RunBytes::Lent(joined), replies, cost });
        }
        drop(left);
        shared.clear();
        *filled = 0;
        joined.clear();
        if shared.capacity().max(joined.capacity()) > KEPT_BYTES {
            (self.shared, self.joined) = (Vec::new(), Vec::new());
        }
        pieces.shrink_to(KEPT);
        self.pieces = pieces;
    }

    /// The shared buffer, which is empty after the replies were handed out.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_for_a_slow_client_holds_no_buffer_that_is_used_for_others() {
        let buffer = Bytes::from(vec![7; 100]);
        let is_copied = |rest: &Bytes| !buffer.as_ptr_range().contains(&rest.as_ptr());
        let (lent, held) = (RunBytes::Lent(&buffer[..]).rest(40), RunBytes::Held(buffer.clone()).rest(40));
        assert!(is_copied(&lent) && !is_copied(&held));
        assert_eq!((lent.len(), held.len()), (60, 60));
    }

    fn push(runs: &mut Runs, client: ClientKey, reply: &[u8], cost: u32) {
        let mut room = runs.lend();
        room.extend_from_slice(reply);
        runs.push(client, &mut room, cost);
        runs.keep(room);
    }

    #[test]
    fn a_big_reply_has_a_buffer_of_its_own_and_one_that_is_not_wanted_leaves_nothing_behind() {
        let clients = [1, 2, 3].map(|slot| ClientKey { slot, generation: 0 });
        for before in [0, 10, OWN_BUFFER - 1] {
            let mut runs = Runs::default();
            push(&mut runs, clients[0], &vec![1; before], 5);
            let mut room = runs.lend();
            room.extend_from_slice(b"not wanted");
            runs.keep(room);
            push(&mut runs, clients[1], &vec![2; 2 * OWN_BUFFER], 6);
            push(&mut runs, clients[2], &[3; 10], 7);
            let mut seen = Vec::new();
            runs.hand_out(|run| {
                let is_own = matches!(run.bytes, RunBytes::Held(_));
                seen.push((run.client.slot, run.bytes.to_vec(), is_own, run.replies, run.cost));
            });
            let expected = [
                (1, vec![1; before], false, 1, 5),
                (2, vec![2; 2 * OWN_BUFFER], true, 1, 6),
                (3, vec![3; 10], false, 1, 7),
            ];
            assert_eq!(seen, expected, "behind {before} bytes");
        }
        let mut runs = Runs::default();
        for _ in 0..4 {
            push(&mut runs, clients[0], &vec![1; OWN_BUFFER - 1], 5);
        }
        push(&mut runs, clients[1], &vec![2; OWN_BUFFER], 6);
        push(&mut runs, clients[0], b"last", 7);
        let mut seen = Vec::new();
        runs.hand_out(|run| seen.push((run.client.slot, run.bytes.len(), run.replies, run.cost)));
        assert_eq!(seen, [(1, 4 * (OWN_BUFFER - 1) + 4, 5, 27), (2, OWN_BUFFER, 1, 6)]);
    }

    #[test]
    fn if_the_shared_buffer_is_lost_nobody_gets_what_is_written_next_but_its_client() {
        let clients = [1, 2].map(|slot| ClientKey { slot, generation: 0 });
        let mut runs = Runs::default();
        push(&mut runs, clients[0], b"a reply that is lost", 5);
        drop(runs.lend());
        push(&mut runs, clients[1], b"next", 6);
        let mut seen = Vec::new();
        runs.hand_out(|run| seen.push((run.client.slot, run.bytes.to_vec(), run.replies, run.cost)));
        assert_eq!(seen, [(2, b"next".to_vec(), 1, 6)]);
    }

    #[test]
    fn a_client_that_is_slow_to_take_a_big_reply_holds_no_buffer_that_is_much_bigger() {
        let client = ClientKey { slot: 1, generation: 0 };
        for (room, is_copied) in [(2 * OWN_BUFFER, false), (2 * OWN_BUFFER + 1, true)] {
            let mut runs = Runs::default();
            let mut shared = Vec::with_capacity(room);
            shared.extend_from_slice(&[7; OWN_BUFFER]);
            assert_eq!(shared.capacity(), room);
            let lies = shared.as_ptr();
            runs.push(client, &mut shared, 5);
            runs.hand_out(|run| assert_eq!(run.bytes.as_ptr() != lies, is_copied));
        }
    }

    #[test]
    fn after_a_panic_in_the_middle_nothing_is_handed_out_twice_nor_to_another_client() {
        let clients = [1, 2, 3].map(|slot| ClientKey { slot, generation: 0 });
        for before in [1, 2] {
            let mut runs = Runs::default();
            for client in &clients[..before] {
                push(&mut runs, *client, b"before", 5);
            }
            let handed_out = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                runs.hand_out(|_| panic!("as the test asked"));
            }));
            assert!(handed_out.is_err());
            push(&mut runs, clients[2], b"behind", 6);
            let mut seen = Vec::new();
            runs.hand_out(|run| seen.push((run.client.slot, run.bytes.to_vec(), run.replies, run.cost)));
            assert_eq!(seen, [(3, b"behind".to_vec(), 1, 6)]);
        }
    }

    #[test]
    fn after_replies_were_handed_out_there_are_none_and_their_room_is_kept_unless_it_is_much() {
        let (one, other) = (ClientKey { slot: 1, generation: 0 }, ClientKey { slot: 2, generation: 0 });
        let mut runs = Runs::default();
        for is_much in [false, true] {
            let size = if is_much { OWN_BUFFER - 1 } else { 10 };
            // In turns, so that those of each client are joined.
            for _ in 0..3 {
                push(&mut runs, one, &vec![1; size], 5);
                push(&mut runs, other, &vec![2; size], 7);
            }
            assert_eq!(runs.replies(), 6);
            let mut seen = Vec::new();
            runs.hand_out(|run| seen.push((run.client.slot, run.bytes.to_vec(), run.replies, run.cost)));
            assert_eq!(seen, [(1, vec![1; 3 * size], 3, 15), (2, vec![2; 3 * size], 3, 21)]);
            assert!(runs.replies() == 0 && runs.pieces.is_empty() && runs.shared.is_empty());
            assert_eq!([&runs.shared, &runs.joined].map(|room| room.capacity() > 0), [!is_much; 2]);
        }
    }
}
