//! Bytes in any portions in, whole packets out.
//!
//! Each connection owns one [`Splitter`] and feeds it what it reads.
//! It never reads, never decodes a payload, and never sizes a buffer from a length that the peer merely claims.
//!
//! ```text
//!              whole in the input: borrowed, no copy
//!              ┌───┐
//!              │   ▼       a part
//! ┌──────── Between ────────────────► Assembling ──── whole ───► (yielded) ──► Between
//! │            ▲                       │       │
//! │            │ body over             │       └─ with descriptors ─► Descriptors ──► (yielded)
//! │            └────── Skipping ◄──────┤ length over the limit
//! │                                    │
//! └────────────► Finished ◄────────────┘ malformed, or length far over the limit
//! ```

mod step;

pub use step::{Assembled, Packet, Payload, SplitError, Step, TooLarge};

use crate::header::{HEADER_LEN, Header};
use crate::limits::{FD_COUNT_LEN, MAX_FDS, ROOM_FROM, SKIP_FACTOR};

/// The length of everything in front of the payload of a packet with descriptors.
const FD_HEADER_LEN: usize = HEADER_LEN + FD_COUNT_LEN;

/// The first capacity of the buffer, so that a header that trickles in does not reallocate.
const MIN_CAPACITY: usize = 64;

/// Splits a stream of bytes into packets; see the module's documentation.
#[derive(Debug)]
pub struct Splitter {
    max_packet: u32,
    phase: Phase,
    /// The packet that is being assembled, from its length word on.
    /// It can be longer than what has arrived, by the room that [`Splitter::room`] has lent.
    buffer: Vec<u8>,
    /// How many bytes of `buffer` have arrived.
    arrived: usize,
    /// How many descriptors have arrived behind the packet in `buffer`.
    fds: u32,
    /// Whether the transport can bring descriptors.
    takes_fds: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Between,
    Assembling,
    Descriptors,
    /// So many bytes of a too large packet are still to come.
    Skipping(u32),
    Finished,
}

impl Splitter {
    /// A splitter that refuses packets of more than `max_packet` bytes, the header included.
    ///
    /// A limit below [`HEADER_LEN`] would refuse everything and counts as [`HEADER_LEN`].
    #[must_use]
    pub fn new(max_packet: u32) -> Self {
        Self {
            max_packet: max_packet.max(HEADER_LEN as u32),
            phase: Phase::Between,
            buffer: Vec::new(),
            arrived: 0,
            fds: 0,
            takes_fds: true,
        }
    }

    /// For a transport that cannot bring descriptors, such as TCP.
    ///
    /// A packet that promises some is yielded as soon as it is whole, with [`Packet::fds`] as promised:
    /// there is nothing to wait for, and the stream cannot be followed safely behind it.
    #[must_use]
    pub fn without_fds(mut self) -> Self {
        self.takes_fds = false;
        self
    }

    /// Takes from the front of `input` until there is something to report, and advances `input` accordingly.
    ///
    /// `fds` is how many descriptors came with the *last* byte of `input`, whatever of `input` has been taken before:
    /// a read of a Unix socket ends with the byte that carried a descriptor, so only the last byte can have one.
    ///
    /// # Errors
    ///
    /// When the peer breaks the format. The stream cannot be followed any further:
    /// every call after that is [`SplitError::Finished`].
    #[inline]
    pub fn next<'a>(&mut self, input: &mut &'a [u8], fds: usize) -> Result<Step<'a>, SplitError> {
        match self.next_whole(input) {
            Some((header, payload)) => Ok(Step::Packet(Packet { header, payload: Payload::Borrowed(payload), fds: 0 })),
            None => self.advance(input, fds),
        }
    }

    /// The packet at the front of `input`, its header and its payload, if it is like nearly every one: whole, within the
    /// limit, without descriptors. For those who want these two by themselves; what is not like that is the business of
    /// [`Splitter::next`], which looks at it from the start.
    #[inline]
    pub fn next_whole<'a>(&mut self, input: &mut &'a [u8]) -> Option<(Header, &'a [u8])> {
        if self.phase != Phase::Between {
            return None;
        }
        let (length, header) = Header::decode(input.first_chunk::<HEADER_LEN>()?);
        if length > self.max_packet || header.packet_type.has_fds() {
            return None;
        }
        let (packet, rest) = input.split_at_checked(length as usize)?;
        let payload = packet.get(HEADER_LEN..)?;
        *input = rest;
        Some((header, payload))
    }

    /// Whether some but not all bytes of a packet have arrived.
    ///
    /// The body of a too large packet and the descriptors behind a packet count as parts of it.
    #[inline]
    #[must_use]
    pub fn is_mid_packet(&self) -> bool {
        !matches!(self.phase, Phase::Between | Phase::Finished)
    }

    /// How many bytes of memory the splitter holds right now: none between packets.
    #[inline]
    #[must_use]
    pub fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// Room to read straight into the packet that is being assembled.
    ///
    /// There is some once [`ROOM_FROM`] bytes of the packet have arrived, while bytes of it are missing:
    /// at most as much as has arrived, and never more than is missing.
    /// After reading `n` bytes into it, call [`Splitter::filled`] with `n`, then [`Splitter::next`]
    /// with empty input, which yields the packet if it is whole.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        if self.phase != Phase::Assembling || self.arrived < ROOM_FROM {
            return None;
        }
        let (length, _) = self.head()?;
        let length = length as usize;
        // Room that is left from the last time is lent again, unless reads into it would become tiny.
        // Growing only then keeps the number of copies logarithmic.
        let left = self.buffer.len() - self.arrived;
        if left < self.arrived / 4 && self.buffer.len() < length {
            let end = length.min(2 * self.arrived);
            self.buffer.reserve_exact(end - self.buffer.len());
            self.buffer.resize(end, 0);
        }
        self.buffer.get_mut(self.arrived..).filter(|room| !room.is_empty())
    }

    /// Says that the first `n` bytes of the last [`Splitter::room`] have been read into.
    ///
    /// More than the room counts as all of it.
    pub fn filled(&mut self, n: usize) {
        debug_assert!(n <= self.buffer.len() - self.arrived, "more than the room");
        self.arrived = self.buffer.len().min(self.arrived.saturating_add(n));
    }

    /// The way of all packets but those that `next` sees whole.
    fn advance<'a>(&mut self, input: &mut &'a [u8], fds: usize) -> Result<Step<'a>, SplitError> {
        match self.phase {
            Phase::Between if input.is_empty() => Ok(Step::NeedInput),
            Phase::Between => match self.borrow_with_fds(input, fds) {
                Some(packet) => Ok(Step::Packet(packet)),
                None => self.assemble(input, fds),
            },
            Phase::Assembling => self.assemble(input, fds),
            Phase::Descriptors => self.collect_fds(input, fds),
            Phase::Skipping(left) => self.pass_over(left, input, fds),
            Phase::Finished => Err(SplitError::Finished),
        }
    }

    /// Drops what has come of the body of a too large packet.
    fn pass_over<'a>(&mut self, left: u32, input: &mut &'a [u8], fds: usize) -> Result<Step<'a>, SplitError> {
        let body;
        (body, *input) = input.split_at(input.len().min(left as usize));
        match left - body.len() as u32 {
            0 => {
                self.phase = Phase::Between;
                // What follows the body is looked at afresh, on the fast path first.
                self.next(input, fds)
            }
            left => {
                self.phase = Phase::Skipping(left);
                Ok(Step::NeedInput)
            }
        }
    }

    /// A packet with at most one descriptor that lies whole in `input`, its descriptor included.
    ///
    /// With two, it cannot lie whole in one input: each descriptor ends one.
    fn borrow_with_fds<'a>(&self, input: &mut &'a [u8], n_fds: usize) -> Option<Packet<'a>> {
        let (length, header) = Header::decode(input.first_chunk()?);
        if !header.packet_type.has_fds() || length > self.max_packet {
            return None;
        }
        let (packet, rest) = input.split_at_checked(length as usize)?;
        let (head, payload) = packet.split_first_chunk::<FD_HEADER_LEN>()?;
        let (fds, rest) = match (fd_count(head), rest, n_fds) {
            (0, rest, _) => (0, rest),
            (1, [0], 1) => (1, &rest[1..]),
            _ => return None,
        };
        *input = rest;
        Some(Packet { header, payload: Payload::Borrowed(payload), fds })
    }

    /// Buffers what has come of a packet, and judges each part of it as soon as it is there.
    ///
    /// All steps up to the one where input ran out are repeated by the next call; they have no effect then.
    fn assemble<'a>(&mut self, input: &mut &'a [u8], fds: usize) -> Result<Step<'a>, SplitError> {
        self.phase = Phase::Assembling;
        self.take(input, 4);
        let Some(word) = self.buffer[..self.arrived].first_chunk() else {
            return Ok(Step::NeedInput);
        };
        let length = u32::from_be_bytes(*word);
        if (length as usize) < HEADER_LEN {
            return Err(self.fail(SplitError::TooShort { length }));
        }
        self.take(input, HEADER_LEN);
        let Some((_, header)) = self.head() else {
            return Ok(Step::NeedInput);
        };
        if length > self.max_packet {
            return Ok(Step::TooLarge(self.skip(header, length)));
        }
        let mut n_fds = 0;
        if header.packet_type.has_fds() {
            if (length as usize) < FD_HEADER_LEN {
                return Err(self.fail(SplitError::FdCountMissing { header }));
            }
            self.take(input, FD_HEADER_LEN);
            let Some(head) = self.buffer[..self.arrived].first_chunk() else {
                return Ok(Step::NeedInput);
            };
            n_fds = fd_count(head);
            if n_fds > MAX_FDS {
                return Err(self.fail(SplitError::TooManyFds { header, count: n_fds }));
            }
        }
        self.take(input, length as usize);
        if self.arrived < length as usize {
            return Ok(Step::NeedInput);
        }
        if n_fds > 0 && !self.takes_fds {
            self.fds = n_fds;
        } else if n_fds > 0 {
            self.phase = Phase::Descriptors;
            return self.collect_fds(input, fds);
        }
        Ok(self.yield_assembled(header))
    }

    fn collect_fds<'a>(&mut self, input: &mut &'a [u8], n_fds: usize) -> Result<Step<'a>, SplitError> {
        let head = self.buffer.first_chunk().map(fd_count);
        let (Some(count), Some((_, header))) = (head, self.head()) else {
            // The phase is entered only when both have arrived.
            return Err(self.fail(SplitError::Finished));
        };
        while self.fds < count {
            match (*input, n_fds) {
                ([], _) => return Ok(Step::NeedInput),
                ([0], 1) => {
                    *input = &[];
                    self.fds += 1;
                }
                _ => return Err(self.fail(SplitError::FdsMissing { header })),
            }
        }
        Ok(self.yield_assembled(header))
    }

    /// Hands the assembled packet out, and its buffer with it.
    fn yield_assembled<'a>(&mut self, header: Header) -> Step<'a> {
        let offset = match header.packet_type.has_fds() {
            true => FD_HEADER_LEN,
            false => HEADER_LEN,
        };
        let packet = Packet {
            header,
            payload: Payload::Assembled(Assembled::new(std::mem::take(&mut self.buffer), offset)),
            fds: self.fds,
        };
        self.reset(Phase::Between);
        Step::Packet(packet)
    }

    /// Refuses a packet that is too large, of which only the header has been taken.
    fn skip(&mut self, header: Header, length: u32) -> TooLarge {
        // Where descriptors would follow, nobody has read how many: the stream cannot be followed behind the body.
        let skipped =
            u64::from(length) <= u64::from(self.max_packet) * u64::from(SKIP_FACTOR) && !header.packet_type.has_fds();
        self.reset(match skipped {
            true => Phase::Skipping(length - HEADER_LEN as u32),
            false => Phase::Finished,
        });
        TooLarge { header, length, limit: self.max_packet, skipped }
    }

    #[cold]
    fn fail(&mut self, error: SplitError) -> SplitError {
        self.reset(Phase::Finished);
        error
    }

    fn reset(&mut self, phase: Phase) {
        self.phase = phase;
        self.buffer = Vec::new();
        self.arrived = 0;
        self.fds = 0;
    }

    /// Moves bytes from `input` to the buffer until `until` bytes of the packet have arrived, or input is out.
    fn take(&mut self, input: &mut &[u8], until: usize) {
        let n = input.len().min(until.saturating_sub(self.arrived));
        if n == 0 {
            return;
        }
        let (bytes, rest) = input.split_at(n);
        // Room that was lent and not filled is given up, but its memory is kept.
        self.buffer.truncate(self.arrived);
        if self.buffer.capacity() - self.arrived < n {
            // Twice the old capacity is at most twice what has arrived,
            // and the packet's own length bounds the waste once it is known.
            let doubled = until.min(2 * self.buffer.capacity());
            let wanted = doubled.max(self.arrived + n).max(MIN_CAPACITY);
            self.buffer.reserve_exact(wanted - self.arrived);
        }
        self.buffer.extend_from_slice(bytes);
        self.arrived += n;
        *input = rest;
    }

    /// The length and the header of the packet in the buffer, once they have arrived.
    fn head(&self) -> Option<(u32, Header)> {
        Some(Header::decode(self.buffer[..self.arrived].first_chunk()?))
    }
}

fn fd_count(head: &[u8; FD_HEADER_LEN]) -> u32 {
    u32::from_be_bytes([head[28], head[29], head[30], head[31]])
}
