//! From Rust values to XDR, through serde.
//!
//! The values are the service's own, but their depth may be a client's doing, so the limit holds here as well:
//! what encodes, decodes.

use serde::Serialize;
use serde::ser;

use super::MAX_DEPTH;
use super::error::XdrError;
use super::fixed;
use super::reader::{WORD, padding};

/// Appends one value.
#[derive(Debug)]
pub(super) struct Serializer<'a> {
    out: &'a mut Vec<u8>,
    /// How many more levels may be opened inside each other.
    depth_left: usize,
    /// Whether the bytes that come next are an opaque of fixed length.
    fixed: bool,
}

impl<'a> Serializer<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, depth_left: MAX_DEPTH, fixed: false }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), XdrError> {
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn put_padded(&mut self, bytes: &[u8]) -> Result<(), XdrError> {
        self.out.extend_from_slice(bytes);
        self.put(&[0; WORD][..padding(bytes.len())])
    }

    fn put_length(&mut self, length: usize) -> Result<(), XdrError> {
        let word = u32::try_from(length).map_err(|_| XdrError::too_long(length as u64, u32::MAX))?;
        self.put(&word.to_be_bytes())
    }

    fn put_opaque(&mut self, bytes: &[u8]) -> Result<(), XdrError> {
        self.put_length(bytes.len())?;
        self.put_padded(bytes)
    }

    /// The number of a variant; on the wire it is signed.
    fn put_variant(&mut self, index: u32) -> Result<(), XdrError> {
        debug_assert!(index <= i32::MAX as u32, "an enum has fewer variants");
        self.put(&index.to_be_bytes())
    }

    fn open(&mut self) -> Result<(), XdrError> {
        self.depth_left = self.depth_left.checked_sub(1).ok_or_else(XdrError::too_deep)?;
        Ok(())
    }

    /// `value` one level deeper. After an error nothing more is written, so that the level need not be left.
    fn nested<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), XdrError> {
        self.open()?;
        value.serialize(&mut *self)?;
        self.depth_left += 1;
        Ok(())
    }

    /// Elements without a count.
    fn elements(&mut self, levels: usize) -> Result<Elements<'_, 'a>, XdrError> {
        for _ in 0..levels {
            self.open()?;
        }
        Ok(Elements { ser: self, levels })
    }
}

/// Methods that write a number in the width that it has on the wire.
macro_rules! scalars {
    ($($method:ident: $from:ty as $to:ty;)+) => {
        $(
            #[inline]
            fn $method(self, value: $from) -> Result<(), XdrError> {
                self.put(&<$to>::from(value).to_be_bytes())
            }
        )+
    };
}

impl<'b, 'a> ser::Serializer for &'b mut Serializer<'a> {
    type Ok = ();
    type Error = XdrError;
    type SerializeSeq = Counted<'b, 'a>;
    type SerializeTuple = Elements<'b, 'a>;
    type SerializeTupleStruct = Elements<'b, 'a>;
    type SerializeTupleVariant = Elements<'b, 'a>;
    type SerializeMap = ser::Impossible<(), XdrError>;
    type SerializeStruct = Elements<'b, 'a>;
    type SerializeStructVariant = Elements<'b, 'a>;

    fn is_human_readable(&self) -> bool {
        false
    }

    scalars! {
        serialize_bool: bool as u32;
        serialize_i8: i8 as i32;
        serialize_i16: i16 as i32;
        serialize_i32: i32 as i32;
        serialize_i64: i64 as i64;
        serialize_u8: u8 as u32;
        serialize_u16: u16 as u32;
        serialize_u32: u32 as u32;
        serialize_u64: u64 as u64;
        serialize_f32: f32 as f32;
        serialize_f64: f64 as f64;
    }

    fn serialize_i128(self, _value: i128) -> Result<(), XdrError> {
        Err(XdrError::unsupported("integers of 128 bits"))
    }

    fn serialize_u128(self, _value: u128) -> Result<(), XdrError> {
        Err(XdrError::unsupported("integers of 128 bits"))
    }

    fn serialize_char(self, _value: char) -> Result<(), XdrError> {
        Err(XdrError::unsupported("characters"))
    }

    fn serialize_str(self, value: &str) -> Result<(), XdrError> {
        self.put_opaque(value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), XdrError> {
        match std::mem::take(&mut self.fixed) {
            true => self.put_padded(value),
            false => self.put_opaque(value),
        }
    }

    fn serialize_none(self) -> Result<(), XdrError> {
        self.serialize_bool(false)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), XdrError> {
        self.put(&1_u32.to_be_bytes())?;
        self.nested(value)
    }

    fn serialize_unit(self) -> Result<(), XdrError> {
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), XdrError> {
        Ok(())
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        variant_index: u32,
        _variant: &'static str,
    ) -> Result<(), XdrError> {
        self.nested(&variant_index)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<(), XdrError> {
        self.fixed = name == fixed::NAME;
        self.nested(value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        variant_index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<(), XdrError> {
        self.put_variant(variant_index)?;
        self.nested(value)
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<Counted<'b, 'a>, XdrError> {
        let count_at = self.out.len();
        self.put_length(0)?;
        Ok(Counted { elements: self.elements(1)?, count_at, n: 0 })
    }

    fn serialize_tuple(self, _length: usize) -> Result<Elements<'b, 'a>, XdrError> {
        self.elements(1)
    }

    fn serialize_tuple_struct(self, _name: &'static str, _length: usize) -> Result<Elements<'b, 'a>, XdrError> {
        self.elements(1)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        variant_index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Elements<'b, 'a>, XdrError> {
        self.put_variant(variant_index)?;
        self.elements(2)
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Self::SerializeMap, XdrError> {
        Err(XdrError::unsupported("maps"))
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Elements<'b, 'a>, XdrError> {
        self.elements(1)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        variant_index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Elements<'b, 'a>, XdrError> {
        self.put_variant(variant_index)?;
        self.elements(2)
    }
}

/// Elements one behind the other, as in tuples and structs.
#[derive(Debug)]
pub(super) struct Elements<'b, 'a> {
    ser: &'b mut Serializer<'a>,
    /// How many levels are open: two where the elements are what a variant holds.
    levels: usize,
}

impl Elements<'_, '_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), XdrError> {
        value.serialize(&mut *self.ser)
    }

    fn close(self) -> Result<(), XdrError> {
        self.ser.depth_left += self.levels;
        Ok(())
    }
}

impl ser::SerializeTuple for Elements<'_, '_> {
    type Ok = ();
    type Error = XdrError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), XdrError> {
        self.element(value)
    }

    fn end(self) -> Result<(), XdrError> {
        self.close()
    }
}

/// The traits of tuples and structs differ in the names of their methods only.
macro_rules! fields {
    ($($trait:ident::$method:ident($($name:ident)?);)+) => {
        $(
            impl ser::$trait for Elements<'_, '_> {
                type Ok = ();
                type Error = XdrError;

                fn $method<T: Serialize + ?Sized>(&mut self, $($name: &'static str,)? value: &T) -> Result<(), XdrError> {
                    self.element(value)
                }

                $(
                    /// Without its bytes, what follows would be read in its place.
                    fn skip_field(&mut self, $name: &'static str) -> Result<(), XdrError> {
                        Err(XdrError::unsupported(&format!("fields that are left out, as `{}` is", $name)))
                    }
                )?

                fn end(self) -> Result<(), XdrError> {
                    self.close()
                }
            }
        )+
    };
}

fields! {
    SerializeTupleStruct::serialize_field();
    SerializeTupleVariant::serialize_field();
    SerializeStruct::serialize_field(_key);
    SerializeStructVariant::serialize_field(_key);
}

/// Elements behind their count, which is known last.
#[derive(Debug)]
pub(super) struct Counted<'b, 'a> {
    elements: Elements<'b, 'a>,
    /// Where in the output the count stands.
    count_at: usize,
    n: usize,
}

impl ser::SerializeSeq for Counted<'_, '_> {
    type Ok = ();
    type Error = XdrError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), XdrError> {
        let before = self.elements.ser.out.len();
        self.elements.element(value)?;
        if self.elements.ser.out.len() == before {
            return Err(XdrError::unsupported("arrays of elements that have no bytes"));
        }
        self.n += 1;
        Ok(())
    }

    fn end(self) -> Result<(), XdrError> {
        let count = u32::try_from(self.n).map_err(|_| XdrError::too_long(self.n as u64, u32::MAX))?;
        self.elements.ser.out[self.count_at..self.count_at + WORD].copy_from_slice(&count.to_be_bytes());
        self.elements.close()
    }
}
