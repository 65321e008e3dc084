//! The bytes of MessagePack, token by token.
//!
//! The deserializer and the metadata read through it. It knows the format and no types of Rust,
//! it does not recurse, and it allocates only for errors.

use super::MAX_DEPTH;
use super::decode_error::DecodeError;

/// A position in a payload.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'de> {
    /// What has not been read yet.
    rest: &'de [u8],
    /// The length of the whole payload, from which offsets are counted.
    length: usize,
}

/// A value without children, or the start of an array or a map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token<'de> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    /// Negative, or sent as a signed number.
    Signed(i64),
    F32(f32),
    F64(f64),
    /// Not checked to be UTF-8.
    Str(&'de [u8]),
    Bin(&'de [u8]),
    Ext(i8, &'de [u8]),
    /// So many values follow.
    Array(u32),
    /// So many pairs of values follow.
    Map(u32),
}

impl<'de> Reader<'de> {
    pub(crate) fn new(bytes: &'de [u8]) -> Self {
        Self { rest: bytes, length: bytes.len() }
    }

    /// The offset of the next byte.
    #[inline]
    pub(crate) fn offset(&self) -> usize {
        self.length - self.rest.len()
    }

    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Passes over a string if it is this one, in its shortest form, as all that write names do.
    #[inline]
    pub(crate) fn take_str(&mut self, text: &str) -> bool {
        let Some((&marker, rest)) = self.rest.split_first() else { return false };
        if usize::from(marker ^ 0xa0) != text.len() || text.len() > 0x1f {
            return false;
        }
        let Some((name, rest)) = rest.split_at_checked(text.len()) else { return false };
        if !is_same(name, text.as_bytes()) {
            return false;
        }
        self.rest = rest;
        true
    }

    /// Passes over an unsigned integer, if one comes.
    #[inline]
    pub(crate) fn take_unsigned(&mut self) -> Option<u64> {
        let (&marker, rest) = self.rest.split_first()?;
        let (value, rest) = match marker {
            0x00..=0x7f => (marker.into(), rest),
            0xcc => rest.split_first().map(|(value, rest)| (u64::from(*value), rest))?,
            0xcd => rest.split_first_chunk().map(|(value, rest)| (u16::from_be_bytes(*value).into(), rest))?,
            0xce => rest.split_first_chunk().map(|(value, rest)| (u32::from_be_bytes(*value).into(), rest))?,
            0xcf => rest.split_first_chunk().map(|(value, rest)| (u64::from_be_bytes(*value), rest))?,
            _ => return None,
        };
        self.rest = rest;
        Some(value)
    }

    /// Passes over a bin with a length of one byte, as most have, if one comes.
    #[inline]
    pub(crate) fn take_short_bin(&mut self) -> Option<&'de [u8]> {
        let (&[0xc4, length], rest) = self.rest.split_first_chunk()? else { return None };
        let (bytes, rest) = rest.split_at_checked(length.into())?;
        self.rest = rest;
        Some(bytes)
    }

    /// The next token.
    ///
    /// The length of an array or a map is only believed if the bytes that remain can hold it.
    // Where it is inlined, the caller's own match on the token merges with the one in here,
    // which takes a sixth off the time of decoding small arguments.
    #[inline(always)]
    pub(crate) fn token(&mut self) -> Result<Token<'de>, DecodeError> {
        let start = self.offset();
        let [marker] = self.array()?;
        Ok(match marker {
            0x00..=0x7f => Token::Unsigned(marker.into()),
            0x80..=0x8f => self.map((marker & 0x0f).into(), start)?,
            0x90..=0x9f => self.sequence((marker & 0x0f).into(), start)?,
            0xa0..=0xbf => Token::Str(self.slice((marker & 0x1f).into())?),
            0xc0 => Token::Nil,
            0xc1 => return Err(DecodeError::reserved(start)),
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            // Most bins are short.
            0xc4 => {
                let [length] = self.array()?;
                Token::Bin(self.slice(length.into())?)
            }
            0xc5 | 0xc6 => {
                let length = self.length(marker - 0xc4)?;
                Token::Bin(self.slice(length)?)
            }
            0xc7..=0xc9 => {
                let length = self.length(marker - 0xc7)?;
                self.ext(length)?
            }
            0xca => Token::F32(f32::from_be_bytes(self.array()?)),
            0xcb => Token::F64(f64::from_be_bytes(self.array()?)),
            0xcc => Token::Unsigned(u8::from_be_bytes(self.array()?).into()),
            0xcd => Token::Unsigned(u16::from_be_bytes(self.array()?).into()),
            0xce => Token::Unsigned(u32::from_be_bytes(self.array()?).into()),
            0xcf => Token::Unsigned(u64::from_be_bytes(self.array()?)),
            0xd0 => Token::Signed(i8::from_be_bytes(self.array()?).into()),
            0xd1 => Token::Signed(i16::from_be_bytes(self.array()?).into()),
            0xd2 => Token::Signed(i32::from_be_bytes(self.array()?).into()),
            0xd3 => Token::Signed(i64::from_be_bytes(self.array()?)),
            0xd4..=0xd8 => self.ext(1 << (marker - 0xd4))?,
            0xd9..=0xdb => {
                let length = self.length(marker - 0xd9)?;
                Token::Str(self.slice(length)?)
            }
            0xdc | 0xdd => {
                let length = self.length(marker - 0xdc + 1)?;
                self.sequence(length, start)?
            }
            0xde | 0xdf => {
                let length = self.length(marker - 0xde + 1)?;
                self.map(length, start)?
            }
            0xe0..=0xff => Token::Signed(marker.cast_signed().into()),
        })
    }

    /// Passes over one value, of which at most `max_depth` arrays and maps may be nested.
    ///
    /// `max_depth` is at most [`MAX_DEPTH`]; a greater one counts as that.
    pub(crate) fn skip(&mut self, max_depth: usize) -> Result<(), DecodeError> {
        let max_depth = max_depth.min(MAX_DEPTH);
        // How many values are still to come on each level that is open.
        let mut left = [0_u64; MAX_DEPTH];
        let mut depth = 0;
        loop {
            let start = self.offset();
            let n_children = match self.token()? {
                Token::Array(n) => Some(u64::from(n)),
                Token::Map(n) => Some(2 * u64::from(n)),
                _ => None,
            };
            if let Some(n) = n_children {
                if depth == max_depth {
                    return Err(DecodeError::too_deep(start));
                }
                left[depth] = n;
                depth += 1;
            }
            while depth > 0 && left[depth - 1] == 0 {
                depth -= 1;
            }
            if depth == 0 {
                return Ok(());
            }
            left[depth - 1] -= 1;
        }
    }

    fn sequence(&mut self, length: u32, start: usize) -> Result<Token<'de>, DecodeError> {
        self.check_fits(length.into(), start)?;
        Ok(Token::Array(length))
    }

    fn map(&mut self, length: u32, start: usize) -> Result<Token<'de>, DecodeError> {
        self.check_fits(2 * u64::from(length), start)?;
        Ok(Token::Map(length))
    }

    /// Every value has at least one byte.
    fn check_fits(&self, n_values: u64, start: usize) -> Result<(), DecodeError> {
        match n_values <= self.remaining() as u64 {
            true => Ok(()),
            false => Err(DecodeError::truncated(start)),
        }
    }

    fn ext(&mut self, length: u32) -> Result<Token<'de>, DecodeError> {
        let tag = i8::from_be_bytes(self.array()?);
        Ok(Token::Ext(tag, self.slice(length)?))
    }

    /// A length in one, two or four bytes.
    #[inline]
    fn length(&mut self, log_width: u8) -> Result<u32, DecodeError> {
        Ok(match log_width {
            0 => u8::from_be_bytes(self.array()?).into(),
            1 => u16::from_be_bytes(self.array()?).into(),
            _ => u32::from_be_bytes(self.array()?),
        })
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk() {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(*bytes)
            }
            None => Err(DecodeError::truncated(self.offset())),
        }
    }

    #[inline]
    fn slice(&mut self, length: u32) -> Result<&'de [u8], DecodeError> {
        match self.rest.split_at_checked(length as usize) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(DecodeError::truncated(self.offset())),
        }
    }
}

/// Whether two names of the same length are the same: in place for the length of most, since to call for a comparison
/// costs more than that itself.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    fn ends<const N: usize>(a: &[u8], b: &[u8]) -> bool {
        a.first_chunk::<N>() == b.first_chunk() && a.last_chunk::<N>() == b.last_chunk()
    }
    match a.len() {
        8..=16 => ends::<8>(a, b),
        4..=7 => ends::<4>(a, b),
        2..=3 => ends::<2>(a, b),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_expected_one_only_if_each_byte_is() {
        let name = "abcdefghijklmnopqrstuvwxyz_0123456789";
        for length in 0..=name.len() {
            let expected = &name[..length];
            let mut payload = vec![0xa0 | (length & 0x1f) as u8];
            payload.extend_from_slice(expected.as_bytes());
            payload.push(0xc0);
            let mut reader = Reader::new(&payload);
            // A longer one has another form.
            assert_eq!(reader.take_str(expected), length <= 31);
            assert_eq!(reader.remaining(), if length <= 31 { 1 } else { payload.len() });
            for at in 0..=length {
                let mut other = payload.clone();
                other[at] ^= 1;
                assert!(!Reader::new(&other).take_str(expected), "{length} bytes, changed at {at}");
                let mut short = Reader::new(&payload[..at]);
                assert!(!short.take_str(expected) && short.remaining() == at, "{length} bytes, cut at {at}");
            }
        }
    }

    #[test]
    fn what_is_taken_as_a_short_bin_is_what_the_token_says() {
        for marker in 0..=u8::MAX {
            for length in 0..6 {
                let bytes: Vec<u8> =
                    std::iter::once(marker).chain([3, 7, 8, 9, 10, 11].into_iter().take(length)).collect();
                let (mut taken, mut told) = (Reader::new(&bytes), Reader::new(&bytes));
                match taken.take_short_bin() {
                    Some(bin) => {
                        assert_eq!((marker, told.token()), (0xc4, Ok(Token::Bin(bin))), "{bytes:x?}");
                        assert_eq!(taken.remaining(), told.remaining());
                    }
                    None => {
                        assert!(marker != 0xc4 || told.token().is_err(), "{bytes:x?}");
                        assert_eq!(taken.remaining(), bytes.len(), "{bytes:x?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_taken_as_an_unsigned_integer_is_what_the_token_says() {
        for marker in 0..=u8::MAX {
            for length in 0..10 {
                let bytes: Vec<u8> = std::iter::once(marker).chain((1..).take(length)).collect();
                let (mut taken, mut told) = (Reader::new(&bytes), Reader::new(&bytes));
                match (taken.take_unsigned(), told.token()) {
                    (Some(value), token) => assert_eq!(token, Ok(Token::Unsigned(value)), "{bytes:x?}"),
                    (None, token) => {
                        assert!(!matches!(token, Ok(Token::Unsigned(_))), "{bytes:x?}");
                        told = Reader::new(&bytes);
                    }
                }
                assert_eq!(taken.remaining(), told.remaining(), "{bytes:x?}");
            }
        }
    }
}
