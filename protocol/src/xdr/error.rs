//! Why a payload is not the XDR of a type, or a value has no XDR.
//!
//! The sentence names what was found, what was expected and where; the kind is for programs.

use std::fmt::{self, Display};

use serde::de::{self, Expected, Unexpected};
use serde::ser;

use super::MAX_DEPTH;
use crate::codec::shorten;

/// The longest part of a sentence that comes from a payload or from a type.
const MAX_MESSAGE: usize = 256;

/// A payload that does not decode, or a value that does not encode.
///
/// It is one pointer wide, so that the results of decoding stay small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdrError(Box<Fields>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields {
    kind: XdrErrorKind,
    what: String,
    offset: Option<usize>,
}

/// What is wrong, as far as programs may want to tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdrErrorKind {
    /// The payload ends within the value, or could not hold as many elements as it claims.
    Truncated,
    /// The value is nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// A string, opaque or array is over the limit.
    TooLong {
        /// Its length in bytes or elements.
        length: u64,
        /// The limit.
        limit: u32,
    },
    /// The bytes that fill a string or opaque up to a multiple of four are not zero.
    Padding,
    /// Bytes follow the value.
    Trailing,
    /// XDR has no form for the type.
    Unsupported,
    /// A number, a text or a variant that the type does not allow.
    Invalid,
}

impl XdrError {
    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> XdrErrorKind {
        self.0.kind
    }

    /// Where in the payload the value starts that does not decode. An error of encoding has no offset.
    #[must_use]
    pub fn offset(&self) -> Option<usize> {
        self.0.offset
    }

    #[cold]
    pub(super) fn truncated(offset: usize) -> Self {
        Self::new(XdrErrorKind::Truncated, "truncated: the payload ends within the value").at(offset)
    }

    #[cold]
    pub(super) fn too_deep() -> Self {
        Self::new(XdrErrorKind::TooDeep, format!("too deep: nesting deeper than {MAX_DEPTH}"))
    }

    #[cold]
    pub(super) fn too_long(length: impl TryInto<u64>, limit: u32) -> Self {
        let length = length.try_into().unwrap_or(u64::MAX);
        let kind = XdrErrorKind::TooLong { length, limit };
        Self::new(kind, format!("too long: {length} bytes or elements, and the limit is {limit}"))
    }

    #[cold]
    pub(super) fn padding(byte: u8, offset: usize) -> Self {
        Self::new(XdrErrorKind::Padding, format!("invalid padding: the byte is {byte:#04x}, expected zero")).at(offset)
    }

    #[cold]
    pub(super) fn trailing(n_bytes: usize, offset: usize) -> Self {
        let bytes = if n_bytes == 1 { "byte" } else { "bytes" };
        Self::new(XdrErrorKind::Trailing, format!("trailing bytes: {n_bytes} {bytes} after the value")).at(offset)
    }

    #[cold]
    pub(super) fn unsupported(what: &str) -> Self {
        Self::new(XdrErrorKind::Unsupported, format!("unsupported: XDR has no {what}"))
    }

    /// `word` is the number of a choice, of which there are those that `expected` says.
    #[cold]
    pub(super) fn not_one_of(what: &str, word: impl Display, expected: &str) -> Self {
        Self::new(XdrErrorKind::Invalid, format!("invalid {what}: {word}, expected {expected}"))
    }

    #[cold]
    pub(super) fn not_utf8() -> Self {
        Self::new(XdrErrorKind::Invalid, "invalid string: it is not UTF-8")
    }

    #[cold]
    pub(super) fn not_all_taken(length: u32, left: u32) -> Self {
        let taken = length - left;
        Self::new(XdrErrorKind::Invalid, format!("invalid length: {length}, expected {taken}"))
    }

    /// The same, found at `offset`. What was found further inside stays more exact.
    #[cold]
    pub(super) fn at(mut self, offset: usize) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    #[cold]
    fn new(kind: XdrErrorKind, what: impl Into<String>) -> Self {
        Self(Box::new(Fields { kind, what: what.into(), offset: None }))
    }
}

impl Display for XdrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)?;
        match self.0.offset {
            Some(offset) => write!(f, " at offset {offset}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for XdrError {}

impl de::Error for XdrError {
    #[cold]
    fn custom<T: Display>(message: T) -> Self {
        Self::new(XdrErrorKind::Invalid, shorten(&message.to_string(), MAX_MESSAGE))
    }

    #[cold]
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        de::Error::custom(format_args!("invalid type: {found}, expected {expected}"))
    }

    #[cold]
    fn unknown_variant(variant: &str, _expected: &'static [&'static str]) -> Self {
        de::Error::custom(format_args!("unknown variant: {variant}"))
    }
}

impl ser::Error for XdrError {
    #[cold]
    fn custom<T: Display>(message: T) -> Self {
        de::Error::custom(message)
    }
}
