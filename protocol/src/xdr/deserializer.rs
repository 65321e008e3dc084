//! From XDR to Rust values, through serde.
//!
//! What a type asks for decides how the bytes are read. Where that is not enough, the type is refused.

use serde::de::value::U32Deserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::MAX_DEPTH;
use super::error::XdrError;
use super::fixed;
use super::reader::{Reader, WORD};

/// Reads one value from a payload.
#[derive(Debug)]
pub(super) struct Deserializer<'de> {
    reader: Reader<'de>,
    /// The greatest string, opaque or array, in bytes or elements.
    max_length: u32,
    /// How many more levels may be opened inside each other.
    depth_left: usize,
    /// Whether the tuple that is asked for next is an opaque of fixed length.
    fixed: bool,
}

impl<'de> Deserializer<'de> {
    pub(super) fn new(payload: &'de [u8], max_length: u32) -> Self {
        Self { reader: Reader::new(payload), max_length, depth_left: MAX_DEPTH, fixed: false }
    }

    /// Nothing may follow the value.
    pub(super) fn finish(&self) -> Result<(), XdrError> {
        match self.reader.remaining() {
            0 => Ok(()),
            n => Err(XdrError::trailing(n, self.reader.offset())),
        }
    }

    /// Runs `inside` one level deeper; what fails without saying where failed at `start`.
    ///
    /// The level is left again only on success: after an error nothing more is read.
    fn nested<T>(
        &mut self,
        start: usize,
        inside: impl FnOnce(&mut Self) -> Result<T, XdrError>,
    ) -> Result<T, XdrError> {
        let Some(depth_left) = self.depth_left.checked_sub(1) else {
            return Err(XdrError::too_deep().at(start));
        };
        self.depth_left = depth_left;
        let value = inside(self).map_err(|error| error.at(start))?;
        self.depth_left += 1;
        Ok(value)
    }

    /// Reads with `read` and shows to `visit` what was read.
    #[inline]
    fn scalar<T, U>(
        &mut self,
        read: impl FnOnce(&mut Reader<'de>) -> Result<T, XdrError>,
        visit: impl FnOnce(T) -> Result<U, XdrError>,
    ) -> Result<U, XdrError> {
        let start = self.reader.offset();
        let value = read(&mut self.reader)?;
        visit(value).map_err(|error| error.at(start))
    }

    /// `n` elements without a count.
    fn elements<V: Visitor<'de>>(&mut self, n: u32, start: usize, visitor: V) -> Result<V::Value, XdrError> {
        self.nested(start, |this| {
            let mut elements = Elements { de: this, left: n };
            let value = visitor.visit_seq(&mut elements)?;
            match elements.left {
                0 => Ok(value),
                left => Err(XdrError::not_all_taken(n, left)),
            }
        })
    }

    fn tuple<V: Visitor<'de>>(&mut self, length: usize, visitor: V) -> Result<V::Value, XdrError> {
        let start = self.reader.offset();
        let n = u32::try_from(length).map_err(|_| XdrError::too_long(length, u32::MAX).at(start))?;
        self.elements(n, start, visitor)
    }

    /// A length within the limit.
    fn length(&mut self) -> Result<u32, XdrError> {
        let start = self.reader.offset();
        match self.reader.word()? {
            length if length > self.max_length => Err(XdrError::too_long(length, self.max_length).at(start)),
            length => Ok(length),
        }
    }

    fn opaque(&mut self) -> Result<&'de [u8], XdrError> {
        let length = self.length()?;
        self.reader.opaque(length as usize)
    }

    /// A word that can only be 0 or 1.
    fn flag(&mut self, what: &str) -> Result<bool, XdrError> {
        let start = self.reader.offset();
        match self.reader.word()? {
            0 => Ok(false),
            1 => Ok(true),
            word => Err(XdrError::not_one_of(what, word, "0 or 1").at(start)),
        }
    }
}

/// Methods that read with the reader's method and show the result to the visitor's.
macro_rules! scalars {
    ($($method:ident: $read:ident as $type:ty => $visit:ident;)+) => {
        $(
            #[inline]
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, XdrError> {
                self.scalar(Reader::$read, |value| visitor.$visit(<$type>::from_ne_bytes(value.to_ne_bytes())))
            }
        )+
    };
}

/// Methods that refuse what XDR does not have.
macro_rules! refused {
    ($($method:ident: $what:literal;)+) => {
        $(
            fn $method<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, XdrError> {
                Err(XdrError::unsupported($what).at(self.reader.offset()))
            }
        )+
    };
}

impl<'de> de::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = XdrError;

    fn is_human_readable(&self) -> bool {
        false
    }

    // Narrow integers are shown in the width that they were sent in:
    // the visitor of the narrow type refuses what does not fit.
    scalars! {
        deserialize_i8: word as i32 => visit_i32;
        deserialize_i16: word as i32 => visit_i32;
        deserialize_i32: word as i32 => visit_i32;
        deserialize_i64: hyper as i64 => visit_i64;
        deserialize_u8: word as u32 => visit_u32;
        deserialize_u16: word as u32 => visit_u32;
        deserialize_u32: word as u32 => visit_u32;
        deserialize_u64: hyper as u64 => visit_u64;
        deserialize_f32: word as f32 => visit_f32;
        deserialize_f64: hyper as f64 => visit_f64;
    }

    refused! {
        deserialize_any: "types that describe themselves";
        deserialize_ignored_any: "types that describe themselves";
        deserialize_identifier: "names";
        deserialize_char: "characters";
        deserialize_i128: "integers of 128 bits";
        deserialize_u128: "integers of 128 bits";
        deserialize_map: "maps";
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, XdrError> {
        let value = self.flag("bool")?;
        visitor.visit_bool(value)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, XdrError> {
        let start = self.reader.offset();
        let bytes = self.opaque()?;
        match str::from_utf8(bytes) {
            Ok(text) => visitor.visit_borrowed_str(text),
            Err(_) => Err(XdrError::not_utf8()),
        }
        .map_err(|error| error.at(start))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, XdrError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, XdrError> {
        let start = self.reader.offset();
        let bytes = self.opaque()?;
        visitor.visit_borrowed_bytes(bytes).map_err(|error: XdrError| error.at(start))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, XdrError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, XdrError> {
        let start = self.reader.offset();
        match self.flag("optional")? {
            false => visitor.visit_none(),
            true => self.nested(start, |this| visitor.visit_some(this)),
        }
        .map_err(|error: XdrError| error.at(start))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, XdrError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, XdrError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, XdrError> {
        let start = self.reader.offset();
        self.fixed = name == fixed::NAME;
        self.nested(start, |this| visitor.visit_newtype_struct(this))
    }

    /// The count is only believed if what remains can hold as many elements of one word each.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, XdrError> {
        let start = self.reader.offset();
        let n = self.length()?;
        if n as usize > self.reader.remaining() / WORD {
            return Err(XdrError::truncated(start));
        }
        self.elements(n, start, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, XdrError> {
        if !std::mem::take(&mut self.fixed) {
            return self.tuple(length, visitor);
        }
        let bytes = self.reader.opaque(length)?;
        visitor.visit_borrowed_bytes(bytes)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, XdrError> {
        self.tuple(length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, XdrError> {
        self.tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, XdrError> {
        let start = self.reader.offset();
        self.nested(start, |this| visitor.visit_enum(Variant(this)))
    }
}

/// The elements that have not been taken yet.
struct Elements<'a, 'de> {
    de: &'a mut Deserializer<'de>,
    left: u32,
}

impl<'de> de::SeqAccess<'de> for Elements<'_, 'de> {
    type Error = XdrError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, XdrError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(&mut *self.de).map(Some)
    }

    /// Of an array with a count, the payload can hold as many.
    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left as usize)
    }
}

/// The next word is the number of a variant, and what the variant holds follows.
struct Variant<'a, 'de>(&'a mut Deserializer<'de>);

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = XdrError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), XdrError> {
        let word = self.0.reader.word()?;
        // The number is signed on the wire, and no variant's is negative.
        if word.cast_signed() < 0 {
            return Err(XdrError::not_one_of("variant", word.cast_signed(), "a number from 0"));
        }
        let number: U32Deserializer<XdrError> = word.into_deserializer();
        Ok((seed.deserialize(number)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = XdrError;

    fn unit_variant(self) -> Result<(), XdrError> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, XdrError> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, XdrError> {
        self.0.tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, XdrError> {
        self.0.tuple(fields.len(), visitor)
    }
}
