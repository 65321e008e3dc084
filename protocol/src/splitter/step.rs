//! What the splitter reports: packets, refusals and errors.
//!
//! These types only carry; the splitter makes them, and readers and clients take them apart.

use std::fmt;
use std::ops::Deref;

use crate::header::{HEADER_LEN, Header};
use crate::limits::{FD_COUNT_LEN, MAX_FDS, SKIP_FACTOR};

/// What the splitter found next.
#[derive(Debug)]
pub enum Step<'a> {
    /// All input is taken, and no packet is whole yet.
    NeedInput,
    /// A whole packet.
    Packet(Packet<'a>),
    /// The header of a packet over the limit.
    TooLarge(TooLarge),
}

/// A whole packet.
#[derive(Debug)]
pub struct Packet<'a> {
    /// What the packet says about itself.
    pub header: Header,
    /// What stands behind the header and, where there is one, the count of descriptors.
    pub payload: Payload<'a>,
    /// How many descriptors came with the packet.
    pub fds: u32,
}

/// The payload of a packet; it dereferences to its bytes.
#[derive(Debug)]
pub enum Payload<'a> {
    /// The packet lay whole in the input, and so does its payload.
    Borrowed(&'a [u8]),
    /// The packet came in pieces and was assembled.
    Assembled(Assembled),
}

impl Deref for Payload<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Assembled(assembled) => assembled,
        }
    }
}

/// A payload in the buffer that its packet was assembled in.
#[derive(Debug)]
pub struct Assembled {
    packet: Vec<u8>,
    offset: usize,
}

impl Assembled {
    /// `offset` is where in `packet` the payload starts; it is at most the packet's length.
    pub(crate) fn new(packet: Vec<u8>, offset: usize) -> Self {
        debug_assert!(offset <= packet.len(), "a payload starts within its packet");
        Self { packet, offset }
    }

    /// The buffer with the whole packet, and where in it the payload starts.
    ///
    /// With both, a reference-counted slice of the payload can be made without a copy.
    #[must_use]
    pub fn into_vec_and_offset(self) -> (Vec<u8>, usize) {
        (self.packet, self.offset)
    }
}

impl Deref for Assembled {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.packet[self.offset..]
    }
}

impl AsRef<[u8]> for Assembled {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// A packet over the limit, reported as soon as its header has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// The header of the packet, to answer it with.
    pub header: Header,
    /// The length that the packet claims.
    pub length: u32,
    /// The limit.
    pub limit: u32,
    /// Whether the body will be skipped. If not, the packet is so far over the limit
    /// that the connection must end, and the splitter yields nothing any more.
    pub skipped: bool,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { length, limit, .. } = self;
        write!(f, "the packet has {length} bytes, and the limit is {limit} bytes")?;
        match self.skipped {
            true => Ok(()),
            false => write!(f, "; over {SKIP_FACTOR} times that, the body is not read"),
        }
    }
}

/// How a peer can break the format so that its stream cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitError {
    /// The packet claims to be shorter than its own header.
    TooShort {
        /// The length that it claims.
        length: u32,
    },
    /// The packet claims to come with more descriptors than a packet can.
    TooManyFds {
        /// The header of the packet.
        header: Header,
        /// The number of descriptors that it claims.
        count: u32,
    },
    /// A byte that must be zero and carry exactly one descriptor is not or does not.
    FdsMissing {
        /// The header of the packet.
        header: Header,
    },
    /// The packet is of a type with descriptors, but too short to say how many.
    FdCountMissing {
        /// The header of the packet.
        header: Header,
    },
    /// The splitter has reported an error before, or a packet that it would not skip.
    Finished,
}

impl SplitError {
    /// The header of the packet that broke the format, where one could be read.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        match self {
            Self::TooManyFds { header, .. } | Self::FdsMissing { header } | Self::FdCountMissing { header } => {
                Some(header)
            }
            Self::TooShort { .. } | Self::Finished => None,
        }
    }
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { length } => {
                write!(f, "the packet has length {length}, and the smallest packet has {HEADER_LEN} bytes")
            }
            Self::TooManyFds { count, .. } => {
                write!(f, "the packet comes with {count} descriptors, and the limit is {MAX_FDS}")
            }
            Self::FdsMissing { .. } => f.write_str(
                "a byte behind a packet with descriptors is not zero, or did not carry exactly one descriptor",
            ),
            Self::FdCountMissing { .. } => write!(
                f,
                "a packet with descriptors has at least {} bytes, and this one ends before their count",
                HEADER_LEN + FD_COUNT_LEN
            ),
            Self::Finished => f.write_str("the stream was given up at an earlier error"),
        }
    }
}

impl std::error::Error for SplitError {}
