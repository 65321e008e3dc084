//! The number by which a domain is known for good.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use super::fault::{Fault, Kind, Origin};

/// A UUID, in the order of its bytes on the wire and in its text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// A new one, from the random keys that the standard library's hash maps are given: enough to tell domains apart.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        for half in bytes.chunks_exact_mut(8) {
            half.copy_from_slice(&RandomState::new().build_hasher().finish().to_be_bytes());
        }
        // Version 4 of the usual variant.
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }

    /// Reads 32 hexadecimal digits with hyphens anywhere between them, as libvirt does.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let malformed = || Fault::new(Kind::Internal, Origin::Domains, "malformed uuid element");
        let digits: Vec<u8> = text
            .trim()
            .chars()
            .filter(|&c| c != '-')
            // A digit is below 16.
            .map(|c| c.to_digit(16).map(|digit| digit as u8).ok_or_else(malformed))
            .collect::<Result<_, _>>()?;
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).unwrap_or(&0)).collect();
        if digits.len() != 32 {
            return Err(malformed());
        }
        bytes.try_into().map(Self).map_err(|_| malformed())
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if [4, 6, 8, 10].contains(&index) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_text_is_read_back_with_and_without_hyphens() {
        let text = "8f4c1f5e-1111-2222-3333-444455556666";
        let uuid = Uuid::parse(text).unwrap();
        assert_eq!(uuid.to_string(), text);
        assert_eq!(Uuid::parse(&text.replace('-', "")).unwrap(), uuid);
        for wrong in ["", "8f4c", "8f4c1f5e-1111-2222-3333-4444555566660", "8f4c1f5e-1111-2222-3333-44445555666g"] {
            assert_eq!(Uuid::parse(wrong).unwrap_err().message, "internal error: malformed uuid element", "{wrong}");
        }
    }

    #[test]
    fn random_ones_differ_and_say_that_they_are_random() {
        let (one, other) = (Uuid::random(), Uuid::random());
        assert_ne!(one, other);
        assert_eq!(&one.to_string()[14..15], "4");
    }
}
