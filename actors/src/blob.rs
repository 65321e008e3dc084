//! Bytes among arguments and results: [`Blob`].
//!
//! While arguments are decoded, this thread knows in which buffer they lie ([`decoding`]); a blob that is most of them
//! takes its part of the buffer.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::job::SHARED_PAYLOAD;

/// Bytes, as an argument or a result of a procedure: MessagePack's `bin`, or opaque data in XDR.
///
/// An argument is not copied when it is decoded if it is more than half of arguments of 4 KiB or more: then it is a part of
/// the buffer in which these came. That stays in memory for as long as the blob does, so who keeps one for long copies it
/// (`Blob::from(&blob[..])`); a clone copies nothing then. Other arguments are copied; up to 64 bytes to where those of the
/// last such blob lay that was dropped on the same thread, so that a handler that is done with its call when it returns has
/// nothing allocated.
///
/// In MessagePack it is read from a string too, whose bytes it takes, and from a sequence of numbers.
///
/// ```
/// use postroom_actors::Blob;
///
/// #[derive(serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
/// struct Store {
///     name: String,
///     content: Blob,
/// }
///
/// let store = Store { name: "a".into(), content: Blob::from(vec![1, 2, 3]) };
/// assert_eq!(store.content.len(), 3);
/// assert_eq!(store.content[1..], [2, 3]);
/// ```
#[derive(Clone)]
pub struct Blob(Inner);

/// No bigger than a vector: values are moved several times on their way through a deserializer, and each move waits for
/// the one before it.
#[derive(Clone)]
enum Inner {
    Own(Own),
    Shared(Box<Bytes>),
}

/// A vector that leaves its room to the next one with few bytes.
#[derive(Clone)]
struct Own(Vec<u8>);

impl Default for Blob {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl PartialEq for Blob {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Blob {}

impl Deref for Blob {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Inner::Own(bytes) => &bytes.0,
            Inner::Shared(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<&[u8]> for Blob {
    #[inline]
    fn from(bytes: &[u8]) -> Self {
        match bytes.len() {
            ..=FEW => few(bytes),
            _ => bytes.to_vec(),
        }
        .into()
    }
}

impl From<Vec<u8>> for Blob {
    /// Copies nothing.
    #[inline]
    fn from(bytes: Vec<u8>) -> Self {
        Self(Inner::Own(Own(bytes)))
    }
}

impl From<Bytes> for Blob {
    /// Copies nothing.
    fn from(bytes: Bytes) -> Self {
        Self(Inner::Shared(Box::new(bytes)))
    }
}

impl From<Blob> for Bytes {
    /// Copies nothing.
    fn from(blob: Blob) -> Self {
        match blob.0 {
            Inner::Own(bytes) => bytes.into_vec().into(),
            Inner::Shared(bytes) => *bytes,
        }
    }
}

impl From<Blob> for Vec<u8> {
    /// Allocates nothing, if no other blob has a part of the same buffer.
    fn from(blob: Blob) -> Self {
        match blob.0 {
            Inner::Own(bytes) => bytes.into_vec(),
            Inner::Shared(bytes) => (*bytes).into(),
        }
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.len())
    }
}

impl Serialize for Blob {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

impl<'de> Deserialize<'de> for Blob {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BlobVisitor;
        impl<'de> Visitor<'de> for BlobVisitor {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            #[inline]
            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Blob, E> {
                Ok(within(bytes).map_or_else(|| bytes.into(), Blob::from))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(bytes.into())
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(bytes.into())
            }

            fn visit_str<E>(self, text: &str) -> Result<Blob, E> {
                Ok(text.as_bytes().into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Blob, A::Error> {
                // No more than a claim.
                let mut bytes = Vec::with_capacity(numbers.size_hint().unwrap_or(0).min(4096));
                while let Some(byte) = numbers.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes.into())
            }
        }
        deserializer.deserialize_bytes(BlobVisitor)
    }
}

impl JsonSchema for Blob {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Blob".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "bytes (MessagePack bin): {\"$bin\": BASE64}, or a string for its bytes in UTF-8",
            "anyOf": [
                {
                    "type": "object",
                    "properties": { "$bin": { "type": "string", "contentEncoding": "base64" } },
                    "required": ["$bin"],
                    "additionalProperties": false
                },
                { "type": "string" }
            ]
        })
    }
}

/// So many bytes are few: room for them is kept. Most handlers are done with a blob before the next is decoded.
const FEW: usize = 64;

impl Own {
    fn into_vec(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Own {
    #[inline]
    fn drop(&mut self) {
        if self.0.capacity() == FEW {
            let bytes = std::mem::take(&mut self.0);
            // Not when the thread ends.
            let _ = SPARE.try_with(|spare| spare.set(bytes));
        }
    }
}

/// A copy of few bytes.
#[inline]
fn few(bytes: &[u8]) -> Vec<u8> {
    let mut own = SPARE.try_with(Cell::take).unwrap_or_default();
    if own.capacity() < FEW {
        own = Vec::with_capacity(FEW);
    }
    own.clear();
    own.extend_from_slice(bytes);
    own
}

thread_local! {
    /// Room for few bytes.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static DECODED: RefCell<Option<Bytes>> = const { RefCell::new(None) };
}

/// Has the arguments in this buffer decoded; blobs among them may keep a part of it.
pub(crate) fn decoding<R>(arguments: Bytes, decode: impl FnOnce() -> R) -> R {
    /// Also when a panic comes out of it: types may have code of their own.
    struct Restore(Option<Bytes>);
    impl Drop for Restore {
        fn drop(&mut self) {
            DECODED.set(self.0.take());
        }
    }
    let _restore = Restore(DECODED.replace(Some(arguments)));
    decode()
}

/// The part of the buffer that is decoded in which these bytes lie, if they are most of it.
#[inline]
fn within(bytes: &[u8]) -> Option<Bytes> {
    if bytes.len() < SHARED_PAYLOAD / 2 {
        // Fewer arguments are in no buffer of their own.
        return None;
    }
    DECODED.with_borrow(|decoded| {
        let whole = decoded.as_ref()?;
        let (all, part) = (whole.as_ptr_range(), bytes.as_ptr_range());
        let is_within = all.start <= part.start && part.end <= all.end;
        (is_within && bytes.len() > whole.len() / 2).then(|| whole.slice_ref(bytes))
    })
}

#[cfg(test)]
mod tests {
    use postroom_protocol::{codec, xdr};

    use super::*;
    use crate::form::Form;
    use crate::job::Payload;
    use crate::program::Codec;

    fn encoded(bytes: &[u8]) -> Bytes {
        let mut out = Vec::new();
        codec::encode(&(7, Blob::from(bytes)), &mut out).unwrap();
        out.into()
    }

    fn lies_in(blob: &Blob, buffer: &Bytes) -> bool {
        buffer.as_ptr_range().contains(&blob.as_ptr())
    }

    #[test]
    fn bytes_come_back_as_they_went_in_either_codec_however_many() {
        for length in [0, 1, 300, 70_000] {
            let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
            for blob in [Blob::from(&bytes[..]), Blob::from(bytes.clone()), Blob::from(Bytes::from(bytes.clone()))] {
                assert_eq!(
                    (&*blob, Vec::from(blob.clone()), Bytes::from(blob.clone())),
                    (&bytes[..], bytes.clone(), bytes.clone().into())
                );
                let (mut packed, mut opaque) = (Vec::new(), Vec::new());
                codec::encode(&blob, &mut packed).unwrap();
                xdr::encode(&blob, &mut opaque).unwrap();
                assert_eq!(codec::decode::<Blob>(&packed).unwrap(), blob);
                assert_eq!(xdr::decode::<Blob>(&opaque).unwrap(), blob);
            }
        }
    }

    #[test]
    fn few_bytes_lie_where_those_of_a_blob_lay_that_is_gone_and_nowhere_else() {
        let kept = Blob::from(&b"kept"[..]);
        let gone = Blob::from(&b"gone"[..]);
        let clone = gone.clone();
        let lay = gone.as_ptr();
        drop(gone);
        let next = Blob::from(&[7; FEW][..]);
        assert_eq!(next.as_ptr(), lay);
        assert_eq!((&*kept, &*clone, &*next), (&b"kept"[..], &b"gone"[..], &[7; FEW][..]));
        let bytes = Vec::from(next);
        let others = [Blob::from(&b"other"[..]), Blob::default(), Blob::from(&[8; FEW + 1][..])];
        assert!(others.iter().all(|other| other.as_ptr() != lay));
        assert_eq!(bytes, [7; FEW]);
        // One of a thread that ends, and what is dropped while it ends.
        thread_local!(static LATE: RefCell<Option<Blob>> = const { RefCell::new(None) });
        let late = std::thread::spawn(|| {
            // What is used first is dropped last.
            LATE.set(None);
            LATE.set(Some(Blob::from(&b"late"[..])));
            drop(Blob::from(&b"spare"[..]));
        });
        late.join().unwrap();
    }

    #[test]
    fn it_is_no_bigger_than_a_vector() {
        assert_eq!(size_of::<Blob>(), size_of::<Vec<u8>>());
    }

    #[test]
    fn a_string_and_a_sequence_of_numbers_are_bytes_too_and_nothing_else_is() {
        fn decode(value: impl Serialize) -> Result<Blob, postroom_protocol::DecodeError> {
            let mut out = Vec::new();
            codec::encode(&value, &mut out).unwrap();
            codec::decode(&out)
        }
        assert_eq!(&*decode("text").unwrap(), b"text");
        assert_eq!(&*decode([1, 255]).unwrap(), [1, 255]);
        assert!(decode([1, 256]).is_err());
        assert!(decode(7).unwrap_err().to_string().contains("expected bytes"));
    }

    #[test]
    fn a_blob_that_is_most_of_its_arguments_is_a_part_of_them_and_a_lesser_one_holds_nothing() {
        let many = encoded(&[7; 5000]);
        let (_, blob): (u8, Blob) = decoding(many.clone(), || codec::decode(&many).unwrap());
        assert!(lies_in(&blob, &many));
        let few = encoded(b"few");
        let (_, blob): (u8, Blob) = decoding(few.clone(), || codec::decode(&few).unwrap());
        assert!(!lies_in(&blob, &few));
        let mut out = Vec::new();
        codec::encode(&(Blob::from(&[1; 5000][..]), Blob::from(&[2; 6000][..])), &mut out).unwrap();
        let both = Bytes::from(out);
        let (lesser, greater): (Blob, Blob) = decoding(both.clone(), || codec::decode(&both).unwrap());
        assert_eq!((lies_in(&lesser, &both), lies_in(&greater, &both)), (false, true));
        assert_eq!((lesser[0], greater[0], greater.len()), (1, 2, 6000));
    }

    #[test]
    fn of_a_call_with_many_arguments_a_blob_is_a_part_and_of_few_that_lie_with_those_of_others_it_is_not() {
        let form = Form::Packet(Codec::MessagePack);
        for (length, is_part) in [(SHARED_PAYLOAD, true), (SHARED_PAYLOAD - 100, false)] {
            let buffer = encoded(&vec![7; length]);
            let payload = Payload::within(buffer.clone(), 0..buffer.len());
            let (_, blob): (u8, Blob) = form.decode(&payload).unwrap();
            assert_eq!(lies_in(&blob, &buffer), is_part, "{length} bytes");
        }
    }

    #[test]
    fn bytes_of_another_buffer_are_copied_and_after_a_panic_no_buffer_is_known() {
        let (outer, inner) = (encoded(&[1; 5000]), encoded(&[2; 5000]));
        let (_, blob): (u8, Blob) = decoding(outer.clone(), || codec::decode(&inner).unwrap());
        assert!(!lies_in(&blob, &inner) && !lies_in(&blob, &outer) && blob[0] == 2);
        let nested = decoding(outer.clone(), || {
            let (_, first): (u8, Blob) = decoding(inner.clone(), || codec::decode(&inner).unwrap());
            let (_, second): (u8, Blob) = codec::decode(&outer).unwrap();
            (lies_in(&first, &inner), lies_in(&second, &outer))
        });
        assert_eq!(nested, (true, true));
        let _ = std::panic::catch_unwind(|| decoding(outer.clone(), || panic!("as the test asked")));
        let (_, blob): (u8, Blob) = codec::decode(&outer).unwrap();
        assert!(!lies_in(&blob, &outer));
    }
}
