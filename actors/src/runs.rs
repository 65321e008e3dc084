//! Replies that are about to be written: those of one client together, in one buffer where they are small.
//!
//! Plain data, filled and handed out by one thread. Its bound is that of the calls whose replies they are.

use std::ops::Range;

use bytes::Bytes;

use crate::job::ClientKey;

/// From this size on a reply keeps its own buffer; below it, copying is cheaper than another buffer.
pub(crate) const OWN_BUFFER: usize = 16 * 1024;

/// No more than this is reserved for replies to come: those of one busy client say little of the next ones.
pub(crate) const MOST_EXPECTED: usize = 64 * 1024;

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

/// Replies in the order in which they became ready.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    shared: Vec<u8>,
    pieces: Vec<Piece>,
    replies: usize,
}

/// Replies to one client that were ready one after the other.
#[derive(Debug)]
struct Piece {
    client: ClientKey,
    /// Where they lie in the shared buffer.
    range: Range<usize>,
    own: Option<Vec<u8>>,
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

    /// What there is. What comes next is expected to be about as much.
    pub(crate) fn take(&mut self) -> Self {
        let expected = self.shared.len().min(MOST_EXPECTED);
        std::mem::replace(self, Self::within(Vec::with_capacity(expected)))
    }

    /// Adds a reply, one whole packet, and leaves `packet` empty.
    pub(crate) fn push(&mut self, client: ClientKey, packet: &mut Vec<u8>, cost: u32) {
        if packet.len() < OWN_BUFFER {
            let start = self.shared.len();
            self.shared.extend_from_slice(packet);
            packet.clear();
            self.add(client, start..self.shared.len(), cost);
        } else {
            self.add_own(client, std::mem::take(packet), cost);
        }
    }

    /// Adds a reply that lies in the shared buffer.
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
    pub(crate) fn add_own(&mut self, client: ClientKey, bytes: Vec<u8>, cost: u32) {
        self.replies += 1;
        let cost = cost.into();
        self.pieces.push(Piece { client, range: 0..0, own: Some(bytes), replies: 1, cost });
    }

    /// Hands the replies out, all of one client as one run if they lie in the shared buffer, so that they leave in one
    /// write.
    pub(crate) fn hand_out(self, mut deliver: impl FnMut(Run)) {
        let Self { shared, mut pieces, .. } = self;
        // Not the length: whoever keeps a part of the buffer keeps all that was reserved for it.
        let capacity = shared.capacity();
        let shared = Bytes::from(shared);
        if pieces.len() > 2 {
            // Calls of several clients that were taken in turns. The order within each client stays.
            pieces.sort_by_key(|piece| piece.client);
        }
        let mut pieces = pieces.into_iter().peekable();
        while let Some(first) = pieces.next() {
            let Piece { client, range, own, mut replies, mut cost } = first;
            if let Some(bytes) = own {
                deliver(Run { client, bytes: Bytes::from(bytes), buffer: 0, replies, cost });
                continue;
            }
            let has_bytes = !range.is_empty();
            let follows = |piece: &Piece| has_bytes && piece.client == client && piece.is_shared();
            if !pieces.peek().is_some_and(follows) {
                deliver(Run { client, bytes: shared.slice(range), buffer: capacity, replies, cost });
                continue;
            }
            let mut bytes = shared[range].to_vec();
            while let Some(piece) = pieces.next_if(follows) {
                bytes.extend_from_slice(&shared[piece.range]);
                replies += piece.replies;
                cost += piece.cost;
            }
            deliver(Run { client, buffer: bytes.capacity(), bytes: Bytes::from(bytes), replies, cost });
        }
    }
}
