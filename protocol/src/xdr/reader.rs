//! The bytes of XDR, word by word.
//!
//! Only the deserializer reads through it. It knows the format and no types of Rust, and it allocates only for errors.

use super::error::XdrError;

/// The unit of XDR: everything is filled up to a multiple of so many bytes.
pub(super) const WORD: usize = 4;

/// A position in a payload.
#[derive(Debug)]
pub(super) struct Reader<'de> {
    /// What has not been read yet.
    rest: &'de [u8],
    /// The length of the whole payload, from which offsets are counted.
    length: usize,
}

impl<'de> Reader<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self { rest: bytes, length: bytes.len() }
    }

    /// The offset of the next byte.
    #[inline]
    pub(super) fn offset(&self) -> usize {
        self.length - self.rest.len()
    }

    #[inline]
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(super) fn word(&mut self) -> Result<u32, XdrError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(super) fn hyper(&mut self) -> Result<u64, XdrError> {
        self.array().map(u64::from_be_bytes)
    }

    /// So many bytes, and behind them the zeros that fill the last word.
    pub(super) fn opaque(&mut self, length: usize) -> Result<&'de [u8], XdrError> {
        let bytes = self.slice(length)?;
        let start = self.offset();
        let padding = self.slice(padding(length))?;
        match padding.iter().enumerate().find(|(_, byte)| **byte != 0) {
            Some((n, byte)) => Err(XdrError::padding(*byte, start + n)),
            None => Ok(bytes),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], XdrError> {
        match self.rest.split_first_chunk() {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(*bytes)
            }
            None => Err(XdrError::truncated(self.offset())),
        }
    }

    #[inline]
    fn slice(&mut self, length: usize) -> Result<&'de [u8], XdrError> {
        match self.rest.split_at_checked(length) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(XdrError::truncated(self.offset())),
        }
    }
}

/// How many zeros follow `length` bytes.
pub(super) fn padding(length: usize) -> usize {
    length.wrapping_neg() % WORD
}
