//! The descriptors that are watched: one entry each, however many watches it has, with the joined mask of them all.
//!
//! Plain data; the poller is told elsewhere what [`Descriptor::wanted`] says. The watches of a descriptor form a list
//! through their own slots, of which this holds the head, so that adding and removing one costs the same however many
//! there are.

use std::collections::HashMap;
use std::os::fd::RawFd;

use super::arena::Arena;
use super::events::Events;

/// Stands for "no slot" in lists through slots.
pub(super) const NIL: u32 = u32::MAX;

/// How the poller stands to a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Registration {
    /// It does not know it: there is nothing to poll, or nothing that could become ready.
    Absent,
    /// It polls for these events, and for errors and hang-ups.
    Polled(Events),
    /// It cannot poll this kind of descriptor: ready for whatever is asked. The place in the list of such.
    AlwaysReady(u32),
}

#[derive(Debug)]
pub(super) struct Descriptor {
    pub(super) fd: RawFd,
    pub(super) registration: Registration,
    /// Tells events of this registration from those of an earlier one.
    pub(super) generation: u32,
    /// The head of the list of watches.
    pub(super) first: u32,
    n_active: u32,
    n_readable: u32,
    n_writable: u32,
}

impl Descriptor {
    /// What is to be polled for, all watches together, or `None` where none polls anything.
    pub(super) fn wanted(&self) -> Option<Events> {
        let mut wanted = Events::NONE;
        if self.n_readable > 0 {
            wanted |= Events::READABLE;
        }
        if self.n_writable > 0 {
            wanted |= Events::WRITABLE;
        }
        (self.n_active > 0).then_some(wanted)
    }

    /// A watch of this descriptor polls for `to` from now on, and no more for `from`.
    pub(super) fn change(&mut self, from: Events, to: Events) {
        for (count, counts) in [
            (&mut self.n_active, (|mask| !mask.is_empty()) as fn(Events) -> bool),
            (&mut self.n_readable, |mask| mask.contains(Events::READABLE)),
            (&mut self.n_writable, |mask| mask.contains(Events::WRITABLE)),
        ] {
            *count = *count + u32::from(counts(to)) - u32::from(counts(from));
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Descriptors {
    entries: Arena<Descriptor>,
    by_fd: HashMap<RawFd, u32>,
    always_ready: Vec<u32>,
    last_generation: u32,
}

impl Descriptors {
    /// The entry of a descriptor, made if there is none. `None` where no more fit.
    pub(super) fn of(&mut self, fd: RawFd) -> Option<u32> {
        if let Some(slot) = self.by_fd.get(&fd) {
            return Some(*slot);
        }
        let entry = Descriptor {
            fd,
            registration: Registration::Absent,
            generation: 0,
            first: NIL,
            n_active: 0,
            n_readable: 0,
            n_writable: 0,
        };
        let slot = self.entries.insert(entry).ok()?;
        self.by_fd.insert(fd, slot);
        Some(slot)
    }

    /// Forgets an entry that has no watch left and is not registered any more.
    pub(super) fn forget_if_unused(&mut self, slot: u32) {
        if self.entries.get(slot).is_some_and(|entry| entry.first == NIL)
            && let Some(entry) = self.entries.remove(slot)
        {
            debug_assert_eq!(entry.registration, Registration::Absent);
            self.by_fd.remove(&entry.fd);
        }
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Descriptor> {
        self.entries.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Descriptor> {
        self.entries.get_mut(slot)
    }

    /// A generation for a new registration with the poller.
    pub(super) fn next_generation(&mut self) -> u32 {
        self.last_generation = self.last_generation.wrapping_add(1);
        self.last_generation
    }

    /// Notes how the poller stands to a descriptor now, and keeps the list of those that are always ready.
    pub(super) fn note(&mut self, slot: u32, polled: Option<Events>) {
        self.set(slot, polled.map_or(Registration::Absent, Registration::Polled));
    }

    /// Notes that the poller cannot poll a descriptor.
    pub(super) fn note_always_ready(&mut self, slot: u32) {
        // No more of them than there are slots, and those fit.
        self.set(slot, Registration::AlwaysReady(self.always_ready.len() as u32));
        self.always_ready.push(slot);
    }

    fn set(&mut self, slot: u32, registration: Registration) {
        let Some(entry) = self.entries.get_mut(slot) else { return };
        if let Registration::AlwaysReady(place) = std::mem::replace(&mut entry.registration, registration) {
            self.always_ready.swap_remove(place as usize);
            if let Some(moved) = self.always_ready.get(place as usize)
                && let Some(moved) = self.entries.get_mut(*moved)
            {
                moved.registration = Registration::AlwaysReady(place);
            }
        }
    }

    pub(super) fn always_ready(&self) -> &[u32] {
        &self.always_ready
    }

    pub(super) fn n_slots(&self) -> u32 {
        self.entries.n_slots()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_joined_mask_is_what_any_watch_asks_for() {
        let mut all = Descriptors::default();
        let slot = all.of(5).unwrap();
        assert_eq!(all.of(5), Some(slot));
        let entry = all.get_mut(slot).unwrap();
        assert_eq!(entry.wanted(), None);
        entry.change(Events::NONE, Events::READABLE);
        entry.change(Events::NONE, Events::READABLE | Events::WRITABLE);
        assert_eq!(entry.wanted(), Some(Events::READABLE | Events::WRITABLE));
        entry.change(Events::READABLE | Events::WRITABLE, Events::HANG_UP);
        assert_eq!(entry.wanted(), Some(Events::READABLE));
        entry.change(Events::READABLE, Events::NONE);
        assert_eq!(entry.wanted(), Some(Events::NONE));
        entry.change(Events::HANG_UP, Events::NONE);
        assert_eq!(entry.wanted(), None);
    }

    #[test]
    fn the_list_of_those_that_are_always_ready_has_no_gaps() {
        let mut all = Descriptors::default();
        let slots: Vec<u32> = (0..4).map(|fd| all.of(fd).unwrap()).collect();
        slots.iter().for_each(|slot| all.note_always_ready(*slot));
        all.note(slots[0], None);
        all.note(slots[3], Some(Events::READABLE));
        let mut left = all.always_ready().to_vec();
        left.sort_unstable();
        assert_eq!(left, [slots[1], slots[2]]);
        slots.iter().for_each(|slot| all.note(*slot, None));
        assert!(all.always_ready().is_empty());
        slots.iter().for_each(|slot| all.forget_if_unused(*slot));
        assert_eq!(all.len(), 0);
    }
}
