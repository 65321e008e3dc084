//! Where a message ends: a walk over its values that can stop and go on at any byte.
//!
//! Only the scanner walks. No byte is looked at twice: what is remembered is how many values each open array or map
//! still lacks, and how much of the current value. It allocates nothing.

use super::MAX_MESSAGE_DEPTH;

/// A walk over one message.
#[derive(Debug)]
pub(super) struct Walk {
    /// How many values are still to come on each level that is open.
    left: [u64; MAX_MESSAGE_DEPTH],
    /// How many levels are open.
    depth: usize,
    /// How many values are still to come on all levels together; each has at least one byte.
    pending: u64,
    part: Part,
    /// How many bytes of the message have been walked over.
    walked: u64,
    /// The greatest message, in bytes.
    limit: u64,
}

/// Which part of a value comes next.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// The byte that says what it is.
    Marker,
    /// So many more bytes of its length, whose value so far is `value`.
    Length { of: Lengthy, missing: u8, value: u32 },
    /// So many bytes that are not looked at.
    Body(u64),
}

/// What a length counts.
#[derive(Clone, Copy, Debug)]
enum Lengthy {
    Bytes,
    /// Bytes behind one that says what they are.
    Ext,
    Array,
    Map,
}

/// Where a walk stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Out of bytes, within the message.
    Input,
    /// At the end of the message.
    End,
    /// The message has at least [`Walk::least_length`] bytes, which is over the limit. It can be walked on.
    Limit,
    /// At a byte that starts no value.
    Reserved,
    /// At an array or map that is nested too deep.
    TooDeep,
}

impl Walk {
    pub(super) fn new() -> Self {
        let left = [0; MAX_MESSAGE_DEPTH];
        Self { left, depth: 0, pending: 0, part: Part::Marker, walked: 0, limit: 0 }
    }

    /// Begins a message of at most `limit` bytes.
    pub(super) fn restart(&mut self, limit: u64) {
        self.depth = 0;
        self.pending = 1;
        self.part = Part::Marker;
        self.walked = 0;
        self.limit = limit;
    }

    /// Sets another limit for the rest of the message, which may already be over it.
    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    pub(super) fn is_over_limit(&self) -> bool {
        self.least_length() > self.limit
    }

    /// How many bytes of the message have been walked over.
    pub(super) fn walked(&self) -> u64 {
        self.walked
    }

    /// How many bytes come next that only need to be there.
    pub(super) fn body_left(&self) -> u64 {
        match self.part {
            Part::Body(left) => left,
            _ => 0,
        }
    }

    /// How many bytes the message has at least, with what it has claimed so far.
    ///
    /// The sum cannot overflow: each level adds less than 2^33.
    pub(super) fn least_length(&self) -> u64 {
        let part = match self.part {
            Part::Marker => 0,
            Part::Length { missing, .. } => missing.into(),
            Part::Body(left) => left,
        };
        self.walked + part + self.pending
    }

    /// Walks on over `bytes`; returns how many of them were walked over, and where that stopped.
    ///
    /// After an end or an error the walk is over until [`Walk::restart`].
    pub(super) fn feed(&mut self, bytes: &[u8]) -> (usize, Stop) {
        let before = self.walked;
        let stop = self.run(bytes);
        ((self.walked - before) as usize, stop)
    }

    fn run(&mut self, mut bytes: &[u8]) -> Stop {
        loop {
            match self.part {
                Part::Body(left) => {
                    let n = left.min(bytes.len() as u64);
                    bytes = &bytes[n as usize..];
                    self.walked += n;
                    if n < left {
                        self.part = Part::Body(left - n);
                        return Stop::Input;
                    }
                    self.part = Part::Marker;
                    if self.close() {
                        return Stop::End;
                    }
                }
                Part::Length { of, missing, value } => {
                    let Some((byte, rest)) = bytes.split_first() else {
                        return Stop::Input;
                    };
                    bytes = rest;
                    self.walked += 1;
                    let value = value << 8 | u32::from(*byte);
                    self.part = Part::Length { of, missing: missing - 1, value };
                    if missing == 1 && !self.open(of, value.into()) {
                        return Stop::TooDeep;
                    }
                    if self.is_over_limit() {
                        return Stop::Limit;
                    }
                }
                Part::Marker => {
                    let Some((marker, rest)) = bytes.split_first() else {
                        return Stop::Input;
                    };
                    bytes = rest;
                    self.walked += 1;
                    self.pending -= 1;
                    if let Some(left) = self.depth.checked_sub(1).map(|level| &mut self.left[level]) {
                        *left -= 1;
                    }
                    match self.start(*marker) {
                        None => {}
                        Some(stop) => return stop,
                    }
                    if self.is_over_limit() {
                        return Stop::Limit;
                    }
                }
            }
        }
    }

    /// Says what follows `marker`, which has just been walked over.
    fn start(&mut self, marker: u8) -> Option<Stop> {
        let lengthy = |of, log_width: u8| Part::Length { of, missing: 1 << log_width, value: 0 };
        let (of, n) = match marker {
            0x80..=0x8f => (Lengthy::Map, marker & 0x0f),
            0x90..=0x9f => (Lengthy::Array, marker & 0x0f),
            _ => {
                self.part = match marker {
                    0xa0..=0xbf => Part::Body((marker & 0x1f).into()),
                    0xc1 => return Some(Stop::Reserved),
                    0xc4..=0xc6 => lengthy(Lengthy::Bytes, marker - 0xc4),
                    0xc7..=0xc9 => lengthy(Lengthy::Ext, marker - 0xc7),
                    0xca | 0xce | 0xd2 => Part::Body(4),
                    0xcb | 0xcf | 0xd3 => Part::Body(8),
                    0xcc | 0xd0 => Part::Body(1),
                    0xcd | 0xd1 => Part::Body(2),
                    0xd4..=0xd8 => Part::Body(1 + (1 << (marker - 0xd4))),
                    0xd9..=0xdb => lengthy(Lengthy::Bytes, marker - 0xd9),
                    0xdc | 0xdd => lengthy(Lengthy::Array, marker - 0xdc + 1),
                    0xde | 0xdf => lengthy(Lengthy::Map, marker - 0xde + 1),
                    // Small numbers, nil and booleans are their marker alone.
                    _ => Part::Body(0),
                };
                return None;
            }
        };
        match self.open(of, n.into()) {
            true => None,
            false => Some(Stop::TooDeep),
        }
    }

    /// Says what follows the length `n`; whether it may be nested here.
    fn open(&mut self, of: Lengthy, n: u64) -> bool {
        let n_values = match of {
            Lengthy::Bytes => {
                self.part = Part::Body(n);
                return true;
            }
            Lengthy::Ext => {
                self.part = Part::Body(1 + n);
                return true;
            }
            Lengthy::Array => n,
            Lengthy::Map => 2 * n,
        };
        let Some(left) = self.left.get_mut(self.depth) else {
            return false;
        };
        *left = n_values;
        self.depth += 1;
        self.pending += n_values;
        // An empty one is over at once, which the empty body sees to; others go on with their first value.
        self.part = if n_values == 0 { Part::Body(0) } else { Part::Marker };
        true
    }

    /// Leaves the levels that lack nothing any more; whether that was all.
    fn close(&mut self) -> bool {
        while self.depth > 0 && self.left[self.depth - 1] == 0 {
            self.depth -= 1;
        }
        self.depth == 0
    }
}
