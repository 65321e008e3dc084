//! Names of watches and timers. They count up from 1, each kind on its own, and none is ever used twice.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::num::TryFromIntError;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $word:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(super) u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($word, " {}"), self.0)
            }
        }

        /// As libvirt's interface has it. Fails from the 2³¹st id of a loop on.
        impl TryFrom<$name> for i32 {
            type Error = TryFromIntError;

            fn try_from(id: $name) -> Result<i32, TryFromIntError> {
                i32::try_from(id.0)
            }
        }

        /// From libvirt's interface. Fails for a negative number; whether there is such a watch, the loop will say.
        impl TryFrom<i32> for $name {
            type Error = TryFromIntError;

            fn try_from(id: i32) -> Result<$name, TryFromIntError> {
                u64::try_from(id).map($name)
            }
        }
    };
}

id! {
    /// The watch of a descriptor.
    HandleId, "handle"
}

id! {
    /// A timer.
    TimerId, "timer"
}

/// From an id's number to the slot of its watch.
pub(super) type IdMap = HashMap<u64, u32, BuildHasherDefault<IdHasher>>;

/// Ids are ours and come in sequence, so nobody can choose them to collide and there is nothing to mix. The low bits
/// stay as they are: neighbours by id are neighbours in the table, which keeps it as fast with 100,000 entries as
/// with ten. The highest bits, by which the table tells entries of one group apart, are taken from a product.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write_u64(&mut self, id: u64) {
        self.0 = (id & (u64::MAX >> 7)) | (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) & !(u64::MAX >> 7));
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64((self.0 << 8) | u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_convert_to_what_libvirt_takes_while_they_fit() {
        assert_eq!(i32::try_from(HandleId(7)), Ok(7));
        assert!(i32::try_from(TimerId(1 << 31)).is_err());
        assert_eq!(HandleId::try_from(7), Ok(HandleId(7)));
        assert!(TimerId::try_from(-1).is_err());
        assert_eq!(format!("{} {}", HandleId(3), TimerId(4)), "handle 3 timer 4");
    }

    #[test]
    fn the_map_keeps_ids_apart() {
        let mut map = IdMap::default();
        for id in 1..5000 {
            map.insert(id, id as u32 * 2);
        }
        assert!((1..5000).all(|id| map.get(&id) == Some(&(id as u32 * 2))));
    }
}
