//! What goes out to one client and has not left yet.
//!
//! Whole packets in order, as pieces of shared buffers; nothing is copied on the way in. Its bound is
//! `max_client_output`, held by the client's state: no call starts while the output is beyond it.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// How many pieces go into one write. Linux takes 1024; few suffice, since pieces are runs of replies.
pub(crate) const PIECES: usize = 16;

/// The output of one client.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pieces: VecDeque<Piece>,
    length: u64,
    /// The bytes of events among them.
    events: u64,
}

#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    /// The replies to calls that have left when this piece has.
    replies: usize,
    /// Whether it is events.
    is_events: bool,
}

impl Output {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes that have not left.
    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    /// Bytes that have not left and that the client has asked for by calls: all but events.
    pub(crate) fn of_calls(&self) -> u64 {
        self.length - self.events
    }

    /// Adds whole packets (or the rest of them), among them so many replies to calls.
    pub(crate) fn push(&mut self, bytes: Bytes, replies: usize) {
        self.add(Piece { bytes, replies, is_events: false });
    }

    /// Adds events.
    pub(crate) fn push_events(&mut self, bytes: Bytes) {
        self.events += bytes.len() as u64;
        self.add(Piece { bytes, replies: 0, is_events: true });
    }

    fn add(&mut self, piece: Piece) {
        if !piece.bytes.is_empty() {
            self.length += piece.bytes.len() as u64;
            self.pieces.push_back(piece);
        }
    }

    /// Adds the rest of packets whose beginning has left: it goes first.
    pub(crate) fn push_rest(&mut self, bytes: Bytes, replies: usize) {
        self.length += bytes.len() as u64;
        self.pieces.push_front(Piece { bytes, replies, is_events: false });
    }

    /// What goes into the next write; how many of `slices` were set.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; PIECES]) -> usize {
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(&piece.bytes);
            count += 1;
        }
        count
    }

    /// Throws everything away. Returns how many replies were among it.
    pub(crate) fn clear(&mut self) -> usize {
        (self.length, self.events) = (0, 0);
        std::mem::take(&mut self.pieces).into_iter().map(|piece| piece.replies).sum()
    }

    /// So many bytes have left. Returns how many replies have left with them, each as a whole.
    pub(crate) fn advance(&mut self, mut bytes: usize) -> usize {
        let mut replies = 0;
        self.length -= bytes as u64;
        while let Some(piece) = self.pieces.front_mut() {
            let left = piece.bytes.len().min(bytes);
            if piece.is_events {
                self.events -= left as u64;
            }
            if piece.bytes.len() > bytes {
                piece.bytes.advance(bytes);
                break;
            }
            bytes -= left;
            replies += piece.replies;
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() {
            // An idle client holds no memory for output.
            self.pieces = VecDeque::new();
        }
        replies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_has_left_when_its_last_byte_has() {
        let mut output = Output::default();
        output.push(Bytes::from_static(b"abcd"), 2);
        output.push_events(Bytes::from_static(b"ef"));
        output.push(Bytes::from_static(b"ghi"), 1);
        assert_eq!((output.len(), output.of_calls()), (9, 7));
        assert_eq!(output.advance(3), 0);
        assert_eq!(output.advance(2), 2);
        assert_eq!((output.len(), output.of_calls()), (4, 3));
        let mut slices = [IoSlice::new(&[]); PIECES];
        assert_eq!(output.slices(&mut slices), 2);
        assert_eq!((&*slices[0], &*slices[1]), (&b"f"[..], &b"ghi"[..]));
        assert_eq!(output.advance(4), 1);
        assert!(output.is_empty());
        assert_eq!(output.len(), 0);
    }
}
