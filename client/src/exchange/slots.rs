//! The table of calls: a slab whose keys are the serials on the wire.
//!
//! A serial is a slot's index and the generation of its use, so that finding the call of a reply is one look into an
//! array, and a reply to an earlier use of the slot is recognised. Whoever holds a key frees it, exactly once.

use super::calls::Call;

/// How many bits of a serial are the index of the slot.
const INDEX_BITS: u32 = 24;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;

/// How many calls can be there at once. The last index is left out: its serials are for the connection's own calls.
pub(super) const MAX_CALLS: usize = INDEX_MASK as usize;

/// The serial of the greeting: the index that no slot has.
pub(crate) const GREETING_SERIAL: u32 = u32::MAX;

/// The calls, by serial.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    /// Indices of free slots. The one that was freed last is used first, since it is warm.
    free: Vec<u32>,
}

/// One that is free keeps its call, which holds nothing then.
#[derive(Debug)]
struct Slot {
    serial: u32,
    is_taken: bool,
    call: Call,
}

impl Slots {
    /// A call that is not begun yet and its serial, or nothing if there are [`MAX_CALLS`] already.
    #[inline]
    pub(super) fn insert(&mut self) -> Option<(u32, &mut Call)> {
        let index = match self.free.pop() {
            Some(index) => index as usize,
            None => {
                let serial = self.slots.len() as u32;
                if serial as usize >= MAX_CALLS {
                    return None;
                }
                self.slots.push(Slot { serial, is_taken: false, call: Call::blank() });
                serial as usize
            }
        };
        let slot = &mut self.slots[index];
        slot.is_taken = true;
        Some((slot.serial, &mut slot.call))
    }

    /// The call with this serial, if it is still there.
    #[inline]
    pub(super) fn get_mut(&mut self, serial: u32) -> Option<&mut Call> {
        let slot = self.slots.get_mut((serial & INDEX_MASK) as usize)?;
        (slot.serial == serial && slot.is_taken).then_some(&mut slot.call)
    }

    /// Ends the call with this serial and frees its slot for the next generation. False if it is not there.
    #[inline]
    pub(super) fn remove(&mut self, serial: u32) -> bool {
        let index = serial & INDEX_MASK;
        let Some(slot) = self.slots.get_mut(index as usize) else { return false };
        if slot.serial != serial || !slot.is_taken {
            return false;
        }
        slot.call.clear();
        slot.is_taken = false;
        slot.serial = serial.wrapping_add(1 << INDEX_BITS);
        self.free.push(index);
        true
    }

    /// The serials of all calls.
    pub(super) fn serials(&self) -> Vec<u32> {
        self.slots.iter().filter(|slot| slot.is_taken).map(|slot| slot.serial).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Duration;

    use super::*;
    use crate::error::CallError;
    use crate::exchange::calls::Outgoing;
    use crate::procedure::Procedure;

    #[test]
    fn a_serial_is_good_for_one_use_of_its_slot() {
        let mut slots = Slots::default();
        let mut insert = || slots.insert().unwrap().0;
        let (first, second) = (insert(), insert());
        assert!(slots.remove(first));
        assert!(slots.get_mut(first).is_none() && !slots.remove(first));
        let third = slots.insert().unwrap().0;
        assert_eq!(third & INDEX_MASK, first & INDEX_MASK, "the slot is used again");
        assert_ne!(third, first);
        assert!(slots.get_mut(first).is_none() && slots.get_mut(third).is_some());
        let mut serials = slots.serials();
        serials.sort_unstable();
        assert_eq!(serials, [second, third]);
    }

    #[test]
    fn a_slot_that_is_free_holds_nothing_of_its_call() {
        let mut slots = Slots::default();
        let (serial, call) = slots.insert().unwrap();
        let mut outgoing = Outgoing::new(Procedure::new(1, 1, 1), vec![0; 1000]);
        outgoing.metadata = Some(Box::default());
        call.begin(&mut outgoing, Some(Waker::noop().clone()));
        call.fail(CallError::Deadline(Duration::ZERO));
        assert!(slots.remove(serial));
        let call = slots.insert().unwrap().1;
        assert_eq!(call.payload.capacity(), 0);
        assert!(call.metadata.is_none() && call.waker.is_none());
        assert!(call.take().is_ok(), "it has failed no more");
    }

    #[test]
    fn serials_that_were_never_given_find_nothing() {
        let mut slots = Slots::default();
        for serial in [0, 7, GREETING_SERIAL] {
            assert!(slots.get_mut(serial).is_none() && !slots.remove(serial));
        }
    }
}
