//! From MessagePack to Rust values, through serde.
//!
//! What a value is decides over what a type asks for, except where MessagePack leaves a choice:
//! a type that asks for a sequence of bytes may be sent a bin, and the other way round.

use serde::de::value::SeqDeserializer;
use serde::de::{self, DeserializeSeed, Visitor};
use serde::forward_to_deserialize_any;

use super::decode_error::DecodeError;
use super::enums::{MapVariant, NamedVariant};
use super::ext::Ext;
use super::reader::{Reader, Token};

/// The name by which `rmp-serde` and `rmpv` ask for an ext value.
const EXT_STRUCT_NAME: &str = rmp_serde::MSGPACK_EXT_STRUCT_NAME;

/// Reads one value from a payload.
#[derive(Debug)]
pub(super) struct Deserializer<'de> {
    reader: Reader<'de>,
    /// How many more arrays and maps may be opened inside each other.
    depth_left: usize,
    /// What the key that comes next is called if a struct's fields come in order. Only ever a guess.
    expected: Option<&'static str>,
}

impl<'de> Deserializer<'de> {
    pub(super) fn new(payload: &'de [u8], max_depth: usize) -> Self {
        Self { reader: Reader::new(payload), depth_left: max_depth, expected: None }
    }

    /// Nothing may follow the value.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        match self.reader.remaining() {
            0 => Ok(()),
            n => Err(DecodeError::trailing(n, self.reader.offset())),
        }
    }

    /// Runs `inside` one level deeper. The level is left again only on success:
    /// after an error nothing more is read, and were it, then under a stricter limit.
    pub(super) fn nested<T>(
        &mut self,
        start: usize,
        inside: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let Some(depth_left) = self.depth_left.checked_sub(1) else {
            return Err(DecodeError::too_deep(start));
        };
        self.depth_left = depth_left;
        let value = inside(self)?;
        self.depth_left += 1;
        Ok(value)
    }

    #[inline]
    fn visit<V: Visitor<'de>>(&mut self, token: Token<'de>, start: usize, visitor: V) -> Result<V::Value, DecodeError> {
        match token {
            Token::Nil => visitor.visit_unit(),
            Token::Bool(value) => visitor.visit_bool(value),
            Token::Unsigned(value) => visitor.visit_u64(value),
            Token::Signed(value) => visitor.visit_i64(value),
            Token::F32(value) => visitor.visit_f32(value),
            Token::F64(value) => visitor.visit_f64(value),
            Token::Str(bytes) => match str::from_utf8(bytes) {
                Ok(text) => visitor.visit_borrowed_str(text),
                Err(_) => Err(DecodeError::not_utf8(start)),
            },
            Token::Bin(bytes) => visitor.visit_borrowed_bytes(bytes),
            Token::Ext(tag, data) => visitor.visit_newtype_struct(Ext::new(tag, data)),
            Token::Array(length) => self.nested(start, |this| {
                let mut elements = Elements { de: this, left: length };
                let value = visitor.visit_seq(&mut elements)?;
                all_taken(length, elements.left)?;
                Ok(value)
            }),
            Token::Map(length) => self.entries(length, &[], start, visitor),
        }
        .map_err(|error| error.at(start))
    }

    /// Who asks for an unsigned integer is sent one, most often: the other tokens need not be told apart then.
    #[inline]
    fn unsigned<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, DecodeError> {
        let start = self.reader.offset();
        match self.reader.take_unsigned() {
            Some(value) => visitor.visit_u64(value).map_err(|error: DecodeError| error.at(start)),
            None => de::Deserializer::deserialize_any(self, visitor),
        }
    }

    /// The entries of a map, of which `fields` are expected first.
    #[inline]
    fn entries<V: Visitor<'de>>(
        &mut self,
        length: u32,
        fields: &'static [&'static str],
        start: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.nested(start, |this| {
            let mut entries = Entries { elements: Elements { de: this, left: length }, fields: fields.iter() };
            let value = visitor.visit_map(&mut entries)?;
            all_taken(length, entries.elements.left)?;
            Ok(value)
        })
    }
}

fn all_taken(length: u32, left: u32) -> Result<(), DecodeError> {
    match left {
        0 => Ok(()),
        _ => Err(DecodeError::too_many(length, left)),
    }
}

impl<'de> de::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = DecodeError;

    fn is_human_readable(&self) -> bool {
        // As in `rmp-serde`, which encodes.
        false
    }

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let start = self.reader.offset();
        let token = self.reader.token()?;
        self.visit(token, start, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let start = self.reader.offset();
        match self.reader.peek() {
            Some(0xc0) => {
                self.reader.token()?;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
        .map_err(|error: DecodeError| error.at(start))
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let start = self.reader.offset();
        if let Some(bytes) = self.reader.take_short_bin() {
            return visitor.visit_borrowed_bytes(bytes).map_err(|error: DecodeError| error.at(start));
        }
        match self.reader.token()? {
            // Who asks for bytes gets those of a string too, and they need not be UTF-8.
            Token::Str(bytes) => visitor.visit_borrowed_bytes(bytes).map_err(|error: DecodeError| error.at(start)),
            token => self.visit(token, start, visitor),
        }
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.unsigned(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.unsigned(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.unsigned(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.unsigned(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let start = self.reader.offset();
        match self.reader.token()? {
            Token::Bin(bytes) => visitor
                .visit_seq(SeqDeserializer::new(bytes.iter().copied()))
                .map_err(|error: DecodeError| error.at(start)),
            token => self.visit(token, start, visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let start = self.reader.offset();
        match self.reader.token()? {
            Token::Map(length) => {
                self.entries(length, fields, start, visitor).map_err(|error: DecodeError| error.at(start))
            }
            token => self.visit(token, start, visitor),
        }
    }

    /// A name that is the expected one is known to be UTF-8.
    #[inline]
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let start = self.reader.offset();
        match self.expected.take() {
            Some(name) if self.reader.take_str(name) => visitor.visit_borrowed_str(name),
            _ => return self.deserialize_any(visitor),
        }
        .map_err(|error: DecodeError| error.at(start))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let start = self.reader.offset();
        match self.reader.token()? {
            // Older encoders send a unit struct as an empty array.
            Token::Nil | Token::Array(0) => visitor.visit_unit(),
            token => self.visit(token, start, visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match name {
            EXT_STRUCT_NAME => self.deserialize_any(visitor),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    /// An enum is the name of its variant, or a map of that name to what the variant holds.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let start = self.reader.offset();
        match self.reader.clone().token()? {
            Token::Map(1) => {
                self.reader.token()?;
                self.nested(start, |this| visitor.visit_enum(MapVariant(this)))
            }
            Token::Map(length) => Err(DecodeError::not_one_entry(length)),
            Token::Str(_) | Token::Unsigned(_) => visitor.visit_enum(NamedVariant(self)),
            _ => self.deserialize_any(visitor),
        }
        .map_err(|error| error.at(start))
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let start = self.reader.offset();
        match self.reader.token()? {
            Token::Bin(bytes) if bytes.len() == 16 => visitor.visit_i128(be_128(bytes).cast_signed()),
            token => self.visit(token, start, visitor),
        }
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let start = self.reader.offset();
        match self.reader.token()? {
            Token::Bin(bytes) if bytes.len() == 16 => visitor.visit_u128(be_128(bytes)),
            token => self.visit(token, start, visitor),
        }
    }

    /// What is ignored is passed over without recursion.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.reader.skip(self.depth_left)?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 f32 f64 char str string
        unit map tuple_struct
    }
}

/// Integers of 128 bits are sent as a bin of 16 bytes.
fn be_128(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |value, byte| value << 8 | u128::from(*byte))
}

/// The elements of an array that have not been taken yet.
struct Elements<'a, 'de> {
    de: &'a mut Deserializer<'de>,
    left: u32,
}

impl<'de> de::SeqAccess<'de> for Elements<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(&mut *self.de).map(Some)
    }

    /// The reader has checked that the payload can hold as many.
    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left as usize)
    }
}

/// The entries of a map that have not been taken yet.
struct Entries<'a, 'de> {
    elements: Elements<'a, 'de>,
    /// The names that come next if they come in this order.
    fields: std::slice::Iter<'static, &'static str>,
}

impl<'de> de::MapAccess<'de> for Entries<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        self.elements.de.expected = self.fields.next().copied();
        de::SeqAccess::next_element_seed(&mut self.elements, seed)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        seed.deserialize(&mut *self.elements.de)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.elements.left as usize)
    }
}
