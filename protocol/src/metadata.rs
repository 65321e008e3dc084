//! The map in front of the arguments of a call with metadata.
//!
//! Readers look at it before a call is queued, so it is small and flat by rule:
//! reading it looks at no more than [`MAX_METADATA`] bytes, whatever the payload holds, and never recurses.
//! What the keys mean for the call is decided elsewhere.

use std::fmt;

use crate::codec::{DecodeError, Reader, Token, put_bin, put_str, put_uint};

/// The greatest length of the map, in bytes.
pub const MAX_METADATA: usize = 4096;

/// How many arrays and maps may be nested, the map itself included.
pub const MAX_METADATA_DEPTH: usize = 4;

/// What a call says about itself, besides its arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// How long after its receipt the call is still of use, in milliseconds.
    pub deadline_ms: Option<u32>,
    /// The W3C `traceparent` that the call belongs to.
    pub trace: Option<String>,
    /// Calls of one client with the same key run one after the other, in order.
    pub key: Option<Vec<u8>>,
}

/// Reads the map at the front of `payload`; returns it and how many bytes it took. The arguments follow.
///
/// Unknown keys are passed over, and so are keys that are no strings. Nil counts as an absent value.
/// Of a key that stands there several times the last value counts.
///
/// # Errors
///
/// When there is no map, when it breaks a limit, or when the value of a known key is of the wrong type.
pub fn split_metadata(payload: &[u8]) -> Result<(Metadata, usize), MetadataError> {
    let window = &payload[..payload.len().min(MAX_METADATA)];
    let mut reader = Reader::new(window);
    read(&mut reader).map(|metadata| (metadata, reader.offset())).map_err(|error| match error {
        // The map may well go on behind what was looked at.
        MetadataError::Malformed(ref inner) if inner.is_truncated() && payload.len() > MAX_METADATA => {
            MetadataError::TooLong
        }
        MetadataError::Malformed(ref inner) if inner.is_too_deep() => MetadataError::TooDeep,
        error => error,
    })
}

/// Appends the map. Absent values are left out.
///
/// Keeping within [`MAX_METADATA`] is up to the caller, whose strings these are.
pub fn encode(metadata: &Metadata, out: &mut Vec<u8>) {
    let Metadata { deadline_ms, trace, key } = metadata;
    let n_entries =
        [deadline_ms.is_some(), trace.is_some(), key.is_some()].into_iter().filter(|present| *present).count();
    // At most three entries: a map of so few has its length in its one marker byte.
    out.push(0x80 | n_entries as u8);
    if let Some(deadline_ms) = deadline_ms {
        put_str("deadline_ms", out);
        put_uint((*deadline_ms).into(), out);
    }
    if let Some(trace) = trace {
        put_str("trace", out);
        put_str(trace, out);
    }
    if let Some(key) = key {
        put_str("key", out);
        put_bin(key, out);
    }
}

/// Why metadata cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataError {
    /// The payload does not start with a map.
    NotAMap,
    /// The map is longer than [`MAX_METADATA`].
    TooLong,
    /// The map is nested deeper than [`MAX_METADATA_DEPTH`].
    TooDeep,
    /// The value of a known key is of the wrong type.
    WrongType {
        /// The key.
        key: &'static str,
        /// What its value must be.
        expected: &'static str,
    },
    /// The map is no valid MessagePack.
    Malformed(DecodeError),
}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAMap => f.write_str("metadata: the payload does not start with a map"),
            Self::TooLong => write!(f, "metadata: the map does not end within {MAX_METADATA} bytes"),
            Self::TooDeep => write!(f, "metadata: nesting deeper than {MAX_METADATA_DEPTH}"),
            Self::WrongType { key, expected } => write!(f, "metadata: `{key}` is not {expected}"),
            Self::Malformed(error) => write!(f, "metadata: {error}"),
        }
    }
}

impl std::error::Error for MetadataError {}

impl From<DecodeError> for MetadataError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

fn read(reader: &mut Reader<'_>) -> Result<Metadata, MetadataError> {
    // A map that claims more entries than fit is still a map.
    let (0x80..=0x8f | 0xde | 0xdf) = reader.peek().unwrap_or_default() else {
        return Err(MetadataError::NotAMap);
    };
    let Token::Map(n_entries) = reader.token()? else {
        return Err(MetadataError::NotAMap);
    };
    let mut metadata = Metadata::default();
    for _ in 0..n_entries {
        match string(reader)? {
            Some(b"deadline_ms") => metadata.deadline_ms = deadline(reader.token()?)?,
            Some(b"trace") => metadata.trace = trace(reader.token()?)?,
            Some(b"key") => metadata.key = key(reader.token()?)?,
            _ => reader.skip(MAX_METADATA_DEPTH - 1)?,
        }
    }
    Ok(metadata)
}

/// The string that comes next. Anything else is passed over.
fn string<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, MetadataError> {
    match reader.clone().token()? {
        Token::Str(bytes) => {
            reader.token()?;
            Ok(Some(bytes))
        }
        _ => {
            reader.skip(MAX_METADATA_DEPTH - 1)?;
            Ok(None)
        }
    }
}

fn deadline(token: Token<'_>) -> Result<Option<u32>, MetadataError> {
    let value = match token {
        Token::Nil => return Ok(None),
        Token::Unsigned(value) => u32::try_from(value).ok(),
        Token::Signed(value) => u32::try_from(value).ok(),
        _ => None,
    };
    match value {
        Some(value) => Ok(Some(value)),
        None => Err(MetadataError::WrongType { key: "deadline_ms", expected: "an unsigned integer of 32 bits" }),
    }
}

fn trace(token: Token<'_>) -> Result<Option<String>, MetadataError> {
    let text = match token {
        Token::Nil => return Ok(None),
        Token::Str(bytes) => str::from_utf8(bytes).ok(),
        _ => None,
    };
    match text {
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(MetadataError::WrongType { key: "trace", expected: "a string" }),
    }
}

fn key(token: Token<'_>) -> Result<Option<Vec<u8>>, MetadataError> {
    match token {
        Token::Nil => Ok(None),
        Token::Bin(bytes) | Token::Str(bytes) => Ok(Some(bytes.to_vec())),
        _ => Err(MetadataError::WrongType { key: "key", expected: "a bin or a string" }),
    }
}
