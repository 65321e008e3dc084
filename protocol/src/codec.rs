//! MessagePack payloads from and to Rust values.
//!
//! Workers and clients call it; what to do with a payload that does not decode is theirs to decide.
//!
//! Decoding is this crate's own, over a slice: every container counts towards [`MAX_DEPTH`],
//! a length that the payload cannot hold is refused before anything is allocated, and errors say where.
//! (`rmp-serde` does not count the nesting of enums, so that a hostile payload can overflow the stack
//! where arguments are a recursive enum.) Encoding has no hostile input and is `rmp-serde`'s.

mod decode_error;
mod deserializer;
mod enums;
mod ext;
mod reader;
mod writer;

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use deserializer::Deserializer;

pub use decode_error::DecodeError;
pub(crate) use decode_error::shorten;
pub(crate) use reader::{Reader, Token};
pub(crate) use writer::{put_bin, put_str, put_str_length, put_uint};

/// How many arrays and maps may be nested in a payload.
pub const MAX_DEPTH: usize = 64;

/// Reads a payload that holds exactly one value.
///
/// Structs are read from a map by field name or from an array in field order.
///
/// There are four ways to say nothing: no payload at all, nil, an empty map and an empty array.
/// Each is read as it was sent (no payload as nil); where the type refuses that, it is read as nil, then as an empty map.
/// So a procedure without arguments accepts all of them, and so does one whose arguments are all optional,
/// while a [`rmpv::Value`] shows what was sent.
///
/// # Errors
///
/// When the payload is no valid MessagePack, is nested deeper than [`MAX_DEPTH`], does not fit `T`,
/// or has bytes behind its value.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, DecodeError> {
    match payload {
        [] => decode_nothing(NIL),
        // Nil, and the empty map and the empty array in each of their forms.
        [0xc0 | 0x80 | 0x90] | [0xdc | 0xde, 0, 0] | [0xdd | 0xdf, 0, 0, 0, 0] => decode_nothing(payload),
        _ => decode_value(payload, MAX_DEPTH),
    }
}

/// Appends `value` as MessagePack; structs become maps by field name.
///
/// # Errors
///
/// When the value's own `Serialize` fails. `out` is as before then.
pub fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let mut serializer = rmp_serde::Serializer::new(&mut *out).with_struct_map();
    value.serialize(&mut serializer).map_err(|error| {
        out.truncate(start);
        EncodeError(error.to_string())
    })
}

/// `value` as the MessagePack value that its encoding would be read as, if it encodes.
///
/// It may be nested one level less than a payload, so that it still fits into one.
pub(crate) fn to_value<T: Serialize + ?Sized>(value: &T) -> Option<rmpv::Value> {
    let mut encoded = Vec::new();
    encode(value, &mut encoded).ok()?;
    decode_value(&encoded, MAX_DEPTH - 1).ok()
}

const NIL: &[u8] = &[0xc0];
const EMPTY_MAP: &[u8] = &[0x80];

fn decode_nothing<T: DeserializeOwned>(sent: &[u8]) -> Result<T, DecodeError> {
    decode_value(sent, MAX_DEPTH).or_else(|error| {
        // The client is told what is wrong with what it sent, not with what was tried in its place.
        decode_value(NIL, MAX_DEPTH).or_else(|_| decode_value(EMPTY_MAP, MAX_DEPTH)).map_err(|_| error)
    })
}

fn decode_value<T: DeserializeOwned>(payload: &[u8], max_depth: usize) -> Result<T, DecodeError> {
    let mut deserializer = Deserializer::new(payload, max_depth);
    let value = T::deserialize(&mut deserializer)?;
    deserializer.finish()?;
    Ok(value)
}

/// A value whose own `Serialize` failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeError(String);

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value does not encode: {}", self.0)
    }
}

impl std::error::Error for EncodeError {}
