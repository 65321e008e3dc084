//! The ext type of MessagePack, as serde sees it.
//!
//! Only the deserializer makes these; [`rmpv::Value`] and types like it take them apart.

use serde::de::value::BorrowedBytesDeserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::decode_error::DecodeError;

/// An ext value, which serde sees as a newtype struct around a tag and bytes.
pub(super) struct Ext<'de> {
    tag: Option<i8>,
    data: Option<&'de [u8]>,
}

impl<'de> Ext<'de> {
    pub(super) fn new(tag: i8, data: &'de [u8]) -> Self {
        Self { tag: Some(tag), data: Some(data) }
    }
}

impl<'de> de::Deserializer<'de> for Ext<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_seq(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string
        bytes byte_buf option unit unit_struct newtype_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> de::SeqAccess<'de> for Ext<'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        if let Some(tag) = self.tag.take() {
            return seed.deserialize(tag.into_deserializer()).map(Some);
        }
        match self.data.take() {
            Some(data) => seed.deserialize(BorrowedBytesDeserializer::new(data)).map(Some),
            None => Ok(None),
        }
    }
}
