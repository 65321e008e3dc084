//! The arguments within the params of a message, as the codec takes them.

use std::fmt;

/// The arguments within `params`: MessagePack for [`codec::decode`](crate::codec::decode), borrowed.
///
/// | params | arguments |
/// |---|---|
/// | nil, `[]` or `{}` | none, as sent |
/// | a map | the fields by name |
/// | an array of exactly one map | that map: the fields by name |
/// | any other array | the fields in their order |
///
/// The third row comes before the fourth. So a procedure with a single field that is itself a map (or a struct)
/// does not get it as `[{…}]`: that is read as the fields by name. It gets it by name, as `[{"field": {…}}]`.
/// Whatever else a single field is, `[value]` works, and so does `[nil]` for an optional one;
/// `[[…]]` is a single field that is an array.
///
/// Only the first few bytes are looked at: whether `params` is one whole value is known to the scanner,
/// and to the codec.
///
/// # Errors
///
/// When `params` is neither an array, nor a map, nor nil.
pub fn arguments(params: &[u8]) -> Result<&[u8], ParamsError> {
    let one = match params {
        [0xc0 | 0x80..=0x8f | 0xde | 0xdf, ..] => return Ok(params),
        // One element, in the widths that its number can have.
        [0x91, one @ ..] | [0xdc, 0, 1, one @ ..] | [0xdd, 0, 0, 0, 1, one @ ..] => one,
        [0x90..=0x9f | 0xdc | 0xdd, ..] => return Ok(params),
        _ => return Err(ParamsError { marker: params.first().copied() }),
    };
    match one {
        [0x80..=0x8f | 0xde | 0xdf, ..] => Ok(one),
        _ => Ok(params),
    }
}

/// Params that are neither an array, nor a map, nor nil.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamsError {
    /// The first byte, if there is one.
    marker: Option<u8>,
}

impl fmt::Display for ParamsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = match self.marker {
            None => "missing",
            Some(0xa0..=0xbf | 0xd9..=0xdb) => "a string",
            Some(0xc4..=0xc6) => "a bin",
            Some(0xc2 | 0xc3) => "a boolean",
            Some(0xc7..=0xc9 | 0xd4..=0xd8) => "an ext",
            Some(0xc1) => "no MessagePack",
            Some(_) => "a number",
        };
        write!(f, "the params are {found}; they must be an array, a map or nil")
    }
}

impl std::error::Error for ParamsError {}
