//! Bytes in any portions in, whole messages out.
//!
//! Each connection that speaks MessagePack-RPC owns one [`Scanner`] and feeds it what it reads, as it would a
//! [`Splitter`](crate::Splitter). A message does not say how long it is, so its values are walked over, each byte once:
//! a portion that ends within a message is never looked at again.
//! The scanner never reads, never decodes, and never sizes a buffer from a length that the peer merely claims.
//!
//! ```text
//!              whole in the input: borrowed, no copy
//!              ┌───┐
//!              │   ▼       a part
//! ┌──────── Between ────────────────► Assembling ──── whole ───► (yielded) ──► Between
//! │            ▲                       │       │
//! │            │ at its end            │       └─ nested too deep, or no MessagePack ──┐
//! │            └────── Skipping ◄──────┤ over the limit                               │
//! │                       └────────────┴─ far over the limit ─┐                       │
//! └────────────► Finished ◄───────────────────────────────────┴───────────────────────┘
//! ```

use super::format::{FOUR, NOTIFICATION};
use super::head::{HEAD_LEN, Head};
use super::step::{ScanError, Step, TooLarge};
use super::walk::{Stop, Walk};
use crate::header::HEADER_LEN;
use crate::limits::{ROOM_FROM, SKIP_FACTOR};
use crate::splitter::{Assembled, Payload};

/// The first capacity of the buffer, so that a message that trickles in does not reallocate at each byte.
const MIN_CAPACITY: usize = 64;

/// Splits a stream of bytes into MessagePack-RPC messages; see the module's documentation.
#[derive(Debug)]
pub struct Scanner {
    max_packet: u32,
    phase: Phase,
    walk: Walk,
    /// The message that is being assembled, from its first byte on.
    /// It can be longer than what has arrived, by the room that [`Scanner::room`] has lent.
    buffer: Vec<u8>,
    /// How many bytes of `buffer` have arrived.
    arrived: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Between,
    Assembling,
    /// A message over the limit goes on.
    Skipping(Head),
    Finished,
}

impl Scanner {
    /// A scanner that refuses messages of more than `max_packet` bytes.
    ///
    /// The limit is that of packets, and like theirs it counts as [`HEADER_LEN`] if it is below that.
    #[must_use]
    pub fn new(max_packet: u32) -> Self {
        Self {
            max_packet: max_packet.max(HEADER_LEN as u32),
            phase: Phase::Between,
            walk: Walk::new(),
            buffer: Vec::new(),
            arrived: 0,
        }
    }

    /// Takes from the front of `input` until there is something to report, and advances `input` accordingly.
    ///
    /// # Errors
    ///
    /// When the peer breaks the format. The stream cannot be followed any further:
    /// every call after that is [`ScanError::Finished`].
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a>, ScanError> {
        if let Phase::Skipping(head) = self.phase
            && !self.skip(head, input)?
        {
            return Ok(Step::NeedInput);
        }
        match self.phase {
            Phase::Between => match input.first() {
                None => return Ok(Step::NeedInput),
                Some(&(NOTIFICATION | FOUR)) => self.walk.restart(self.max_packet.into()),
                Some(&byte) => return Err(self.fail(ScanError::NotAMessage { byte })),
            },
            Phase::Assembling => {
                if self.walk_over_room() {
                    return Ok(self.yield_assembled());
                }
            }
            Phase::Skipping(_) => return Ok(Step::NeedInput),
            Phase::Finished => return Err(ScanError::Finished),
        }
        let (n, stop) = self.walk.feed(input);
        let part;
        (part, *input) = input.split_at(n);
        match stop {
            Stop::End if self.arrived == 0 => Ok(Step::Message(Payload::Borrowed(part))),
            Stop::End => {
                self.keep(part);
                Ok(self.yield_assembled())
            }
            Stop::Input => {
                self.keep(part);
                self.phase = Phase::Assembling;
                Ok(Step::NeedInput)
            }
            Stop::Limit => Ok(Step::TooLarge(self.refuse(part))),
            Stop::Reserved | Stop::TooDeep => {
                let head = self.head(part);
                Err(self.fail(self.broken(stop, head)))
            }
        }
    }

    /// Whether some but not all bytes of a message have arrived.
    #[inline]
    #[must_use]
    pub fn is_mid_packet(&self) -> bool {
        !matches!(self.phase, Phase::Between | Phase::Finished)
    }

    /// Whether a message that was refused as too large goes on. An error that is found in it is no news for its sender.
    #[inline]
    #[must_use]
    pub fn is_skipping(&self) -> bool {
        matches!(self.phase, Phase::Skipping(_))
    }

    /// How many bytes of memory the scanner holds right now, besides itself: none between messages.
    #[inline]
    #[must_use]
    pub fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// Room to read straight into the message that is being assembled.
    ///
    /// There is some once [`ROOM_FROM`] bytes of the message have arrived, while bytes of a string, a bin or an ext
    /// are missing: at most as much as has arrived, and never more than is missing of that value.
    /// After reading `n` bytes into it, call [`Scanner::filled`] with `n`, then [`Scanner::next`]
    /// with empty input, which yields the message if it is whole.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        if self.phase != Phase::Assembling || self.arrived < ROOM_FROM {
            return None;
        }
        // What was filled and not yet walked over belongs to the same value.
        let end = usize::try_from(self.walk.walked() + self.walk.body_left()).ok()?;
        // Room that is left from the last time is lent again, unless reads into it would become tiny.
        // Growing only then keeps the number of copies logarithmic.
        let left = self.buffer.len() - self.arrived;
        if left < self.arrived / 4 && self.buffer.len() < end {
            let end = end.min(2 * self.arrived);
            self.buffer.reserve_exact(end - self.buffer.len());
            self.buffer.resize(end, 0);
        }
        self.buffer.get_mut(self.arrived..).filter(|room| !room.is_empty())
    }

    /// Says that the first `n` bytes of the last [`Scanner::room`] have been read into.
    ///
    /// More than the room counts as all of it.
    pub fn filled(&mut self, n: usize) {
        debug_assert!(n <= self.buffer.len() - self.arrived, "more than the room");
        self.arrived = self.buffer.len().min(self.arrived.saturating_add(n));
    }

    /// Walks over what has been read into the room; whether the message is whole with it.
    ///
    /// The room lies within one value whose length was checked, so nothing else can be found there.
    fn walk_over_room(&mut self) -> bool {
        // What has arrived is in memory, so its length fits.
        let walked = self.walk.walked() as usize;
        let (_, stop) = self.walk.feed(&self.buffer[walked..self.arrived]);
        debug_assert!(matches!(stop, Stop::Input | Stop::End), "room holds the inside of a value: {stop:?}");
        stop == Stop::End
    }

    /// Passes over a message that has been refused; whether its end was reached.
    fn skip(&mut self, head: Head, input: &mut &[u8]) -> Result<bool, ScanError> {
        let (n, stop) = self.walk.feed(input);
        *input = &input[n..];
        match stop {
            Stop::Input => Ok(false),
            Stop::End => {
                self.phase = Phase::Between;
                Ok(true)
            }
            Stop::Limit | Stop::Reserved | Stop::TooDeep => Err(self.fail(self.broken(stop, head))),
        }
    }

    /// Refuses a message that is over the limit, whose last `part` is not kept.
    fn refuse(&mut self, part: &[u8]) -> TooLarge {
        let head = self.head(part);
        let length = self.walk.least_length();
        self.walk.set_limit(u64::from(self.max_packet) * u64::from(SKIP_FACTOR));
        let skipped = !self.walk.is_over_limit();
        self.reset(match skipped {
            true => Phase::Skipping(head),
            false => Phase::Finished,
        });
        TooLarge { head, length, limit: self.max_packet, skipped }
    }

    /// The front of the message whose last `part` is not kept.
    fn head(&self, part: &[u8]) -> Head {
        let mut front = [0; HEAD_LEN];
        let bytes = self.buffer[..self.arrived].iter().chain(part);
        let mut n = 0;
        for (to, from) in front.iter_mut().zip(bytes) {
            *to = *from;
            n += 1;
        }
        Head::read(&front[..n])
    }

    fn broken(&self, stop: Stop, head: Head) -> ScanError {
        let offset = self.walk.walked() - 1;
        match stop {
            Stop::Reserved => ScanError::Reserved { head, offset },
            Stop::TooDeep => ScanError::TooDeep { head, offset },
            _ => ScanError::TooLong { head, length: self.walk.least_length(), limit: self.max_packet },
        }
    }

    /// Hands the assembled message out, and its buffer with it.
    fn yield_assembled<'a>(&mut self) -> Step<'a> {
        let mut message = std::mem::take(&mut self.buffer);
        message.truncate(self.arrived);
        self.reset(Phase::Between);
        Step::Message(Payload::Assembled(Assembled::new(message, 0)))
    }

    #[cold]
    fn fail(&mut self, error: ScanError) -> ScanError {
        self.reset(Phase::Finished);
        error
    }

    fn reset(&mut self, phase: Phase) {
        self.phase = phase;
        self.buffer = Vec::new();
        self.arrived = 0;
    }

    /// Appends a part of the message to the buffer.
    fn keep(&mut self, part: &[u8]) {
        // Room that was lent and not filled is given up, but its memory is kept.
        self.buffer.truncate(self.arrived);
        let needed = self.arrived + part.len();
        if self.buffer.capacity() < needed {
            // Twice the old capacity is at most twice what has arrived, and the limit bounds the waste.
            let doubled = (2 * self.buffer.capacity()).min(self.max_packet as usize);
            self.buffer.reserve_exact(doubled.max(needed).max(MIN_CAPACITY) - self.arrived);
        }
        self.buffer.extend_from_slice(part);
        self.arrived = needed;
    }
}
