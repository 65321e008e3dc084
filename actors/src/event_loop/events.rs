//! What can be asked of a descriptor, and what is reported about it: a set of four bits, with libvirt's values.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign};

/// A set of events of a descriptor. As a mask it says what to watch for, in an event what has happened.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Events(u8);

impl Events {
    /// Nothing. As a mask it keeps the watch and polls nothing, not even for a hang-up.
    pub const NONE: Events = Events(0);
    /// There is something to read, or the end of it.
    pub const READABLE: Events = Events(1);
    /// There is room to write.
    pub const WRITABLE: Events = Events(2);
    /// The descriptor has an error. Every mask but [`Events::NONE`] reports it.
    pub const ERROR: Events = Events(4);
    /// The other side is gone. Every mask but [`Events::NONE`] reports it.
    pub const HANG_UP: Events = Events(8);

    const ALL: u8 = 15;

    /// The bits: readable 1, writable 2, error 4, hang-up 8.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set of these bits, or `None` where one of them has no meaning.
    pub const fn from_bits(bits: i32) -> Option<Events> {
        if bits & !(Events::ALL as i32) == 0 { Some(Events(bits as u8)) } else { None }
    }

    /// Whether this is [`Events::NONE`].
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` is in this set.
    pub const fn contains(self, other: Events) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in this set.
    pub const fn intersects(self, other: Events) -> bool {
        self.0 & other.0 != 0
    }

    /// What a watch with this mask is told of `happened`: what it asked for, and errors and hang-ups in any case.
    pub(super) fn reported(self, happened: Events) -> Events {
        if self.is_empty() { Events::NONE } else { happened & (self | Events::ERROR | Events::HANG_UP) }
    }
}

impl BitOr for Events {
    type Output = Events;

    fn bitor(self, other: Events) -> Events {
        Events(self.0 | other.0)
    }
}

impl BitOrAssign for Events {
    fn bitor_assign(&mut self, other: Events) {
        self.0 |= other.0;
    }
}

impl BitAnd for Events {
    type Output = Events;

    fn bitand(self, other: Events) -> Events {
        Events(self.0 & other.0)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("NONE");
        }
        let names = [
            (Events::READABLE, "READABLE"),
            (Events::WRITABLE, "WRITABLE"),
            (Events::ERROR, "ERROR"),
            (Events::HANG_UP, "HANG_UP"),
        ];
        let mut separator = "";
        for (event, name) in names {
            if self.contains(event) {
                write!(f, "{separator}{name}")?;
                separator = " | ";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_those_of_libvirt() {
        let all = [Events::READABLE, Events::WRITABLE, Events::ERROR, Events::HANG_UP];
        assert_eq!(all.map(Events::bits), [1, 2, 4, 8]);
        for bits in -2..40 {
            assert_eq!(
                Events::from_bits(bits).map(|events| i32::from(events.bits())),
                (0..16).contains(&bits).then_some(bits)
            );
        }
        assert_eq!(format!("{:?} {:?}", Events::READABLE | Events::HANG_UP, Events::NONE), "READABLE | HANG_UP NONE");
    }

    #[test]
    fn a_mask_is_told_what_it_asked_for_and_of_errors_and_hang_ups() {
        let happened = Events::READABLE | Events::WRITABLE | Events::HANG_UP;
        assert_eq!(Events::NONE.reported(happened), Events::NONE);
        assert_eq!(Events::READABLE.reported(happened), Events::READABLE | Events::HANG_UP);
        assert_eq!(Events::ERROR.reported(happened), Events::HANG_UP);
    }
}
