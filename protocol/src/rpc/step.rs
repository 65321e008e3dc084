//! What the scanner reports: messages, refusals and errors.
//!
//! These types only carry; the scanner makes them, and readers and clients take them apart.

use std::fmt;

use super::MAX_MESSAGE_DEPTH;
use super::format::{FOUR, NOTIFICATION};
use super::head::Head;
use crate::limits::SKIP_FACTOR;
use crate::splitter::Payload;

/// What the scanner found next.
#[derive(Debug)]
pub enum Step<'a> {
    /// All input is taken, and no message is whole yet.
    NeedInput,
    /// A whole message, from its first byte to its last.
    Message(Payload<'a>),
    /// The front of a message over the limit.
    TooLarge(TooLarge),
}

/// A message over the limit, reported as soon as that is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// As much as could be read of its front, to answer it with.
    pub head: Head,
    /// How many bytes the message has at least, by what it has claimed so far.
    pub length: u64,
    /// The limit, in bytes.
    pub limit: u32,
    /// Whether the rest will be skipped. If not, the message is so far over the limit
    /// that the connection must end, and the scanner yields nothing any more.
    pub skipped: bool,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { length, limit, .. } = self;
        write!(f, "the message has at least {length} bytes, and the limit is {limit} bytes")?;
        match self.skipped {
            true => Ok(()),
            false => write!(f, "; over {SKIP_FACTOR} times that, it is not read"),
        }
    }
}

/// How a peer can break the format so that its stream cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanError {
    /// What should be a message is no array of three or four.
    NotAMessage {
        /// The byte in place of the array's.
        byte: u8,
    },
    /// A byte that starts no MessagePack value.
    Reserved {
        /// As much as could be read of the front of the message.
        head: Head,
        /// Where in the message the byte stands.
        offset: u64,
    },
    /// Arrays and maps are nested deeper than [`MAX_MESSAGE_DEPTH`].
    TooDeep {
        /// As much as could be read of the front of the message.
        head: Head,
        /// Where in the message the length of the one ends that is too deep.
        offset: u64,
    },
    /// A message that was being skipped goes on for more than 16 times the limit.
    TooLong {
        /// As much as could be read of the front of the message.
        head: Head,
        /// How many bytes the message has at least, by what it has claimed so far.
        length: u64,
        /// The limit, in bytes.
        limit: u32,
    },
    /// The scanner has reported an error before, or a message that it would not skip.
    Finished,
}

impl ScanError {
    /// As much as could be read of the message that broke the format.
    #[must_use]
    pub fn head(&self) -> Head {
        match self {
            Self::Reserved { head, .. } | Self::TooDeep { head, .. } | Self::TooLong { head, .. } => *head,
            Self::NotAMessage { .. } | Self::Finished => Head::default(),
        }
    }

    /// The id of the message that broke the format, where it could be read.
    #[must_use]
    pub fn msgid(&self) -> Option<u32> {
        self.head().msgid
    }
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAMessage { byte } => write!(
                f,
                "a message begins with {byte:#04x}; it must be an array of three or four ({NOTIFICATION:#04x} or {FOUR:#04x})"
            ),
            Self::Reserved { offset, .. } => {
                write!(f, "0xc1 starts no MessagePack value, and stands at offset {offset} of the message")
            }
            Self::TooDeep { offset, .. } => {
                write!(f, "the message is nested deeper than {MAX_MESSAGE_DEPTH} at offset {offset}")
            }
            Self::TooLong { length, limit, .. } => write!(
                f,
                "the message has at least {length} bytes, and the limit is {limit} bytes; over {SKIP_FACTOR} times that, it is not read"
            ),
            Self::Finished => f.write_str("the stream was given up at an earlier error"),
        }
    }
}

impl std::error::Error for ScanError {}
