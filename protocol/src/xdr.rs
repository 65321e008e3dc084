//! XDR payloads (RFC 4506) from and to Rust values, for programs of libvirt's kind.
//!
//! The service reads and writes by it what travels for programs that have chosen it; like [`codec`](crate::codec) it owns
//! nothing and decides nothing.
//!
//! XDR does not describe itself: both sides know the types, and the Rust type is what the bytes are read by.
//!
//! | XDR | Rust |
//! |---|---|
//! | `int`, `unsigned int`, and what is narrower | `i8` to `i32`, `u8` to `u32`: four bytes each |
//! | `hyper`, `unsigned hyper` | `i64`, `u64` |
//! | `float`, `double` | `f32`, `f64` |
//! | `bool` | `bool`: 0 or 1, and nothing else |
//! | `string<>` | `String`, which must be UTF-8 |
//! | `opaque<>` | anything that serde sees as bytes, such as `serde_bytes::ByteBuf` |
//! | `opaque[N]` | [`Fixed<N>`](Fixed) |
//! | `T<>` | `Vec<T>`. A `Vec<u8>` is an array of integers of four bytes each, not an opaque |
//! | `T[N]`, `struct` | `[T; N]`, tuples and structs: the elements in order, without a count |
//! | `T *` | `Option<T>` |
//! | `enum` | an enum of unit variants, counted from 0. Where the numbers have gaps, an integer |
//! | `union` | an enum: the number of its variant, then what the variant holds |
//! | `void` | `()` and unit structs: no bytes |
//!
//! Not in XDR, and refused: `char`, 128 bit integers, maps, fields that are left out,
//! types that ask the bytes what they are, and sequences of elements that have no bytes
//! (nothing would bound how many of them a count may claim).
//!
//! A value has exactly one encoding: what decodes gives the same bytes again when it is encoded.

mod deserializer;
mod error;
mod fixed;
mod reader;
mod serializer;

use serde::Serialize;
use serde::de::DeserializeOwned;

use deserializer::Deserializer;
use serializer::Serializer;

pub use error::{XdrError, XdrErrorKind};
pub use fixed::Fixed;

/// How deep values may be nested: every struct, tuple, array, option, enum and newtype is one level.
///
/// Integers, strings and opaques are none.
pub const MAX_DEPTH: usize = 64;

/// Reads a payload that holds exactly one value.
///
/// The only limit to a string, opaque or array is the payload itself; [`decode_limited`] sets another.
///
/// # Errors
///
/// When the payload ends within the value, goes on behind it, is nested deeper than [`MAX_DEPTH`],
/// or is not what `T` is encoded as.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, XdrError> {
    decode_limited(payload, u32::MAX)
}

/// As [`decode`], where no string, opaque or array may have more than `max_length` bytes or elements.
///
/// # Errors
///
/// As [`decode`], and [`XdrErrorKind::TooLong`] before anything of the too long value is looked at.
pub fn decode_limited<T: DeserializeOwned>(payload: &[u8], max_length: u32) -> Result<T, XdrError> {
    let mut deserializer = Deserializer::new(payload, max_length);
    let value = T::deserialize(&mut deserializer)?;
    deserializer.finish()?;
    Ok(value)
}

/// Appends `value` as XDR.
///
/// # Errors
///
/// When the value has no form in XDR, is nested deeper than [`MAX_DEPTH`], or its own `Serialize` fails.
/// `out` is as before then.
pub fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), XdrError> {
    let start = out.len();
    value.serialize(&mut Serializer::new(out)).inspect_err(|_| out.truncate(start))
}
