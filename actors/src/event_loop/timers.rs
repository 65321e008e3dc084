//! Which timer is next: a heap with four children per node, in which each entry knows its place.
//!
//! Plain data on slots and times that it is given; it knows no clock, callbacks or intervals. Knowing the places lets
//! an update or a removal touch one path of the heap and leave nothing behind, so there is never more here than timers
//! that are armed.

/// The place of a slot that is not in the heap.
const NOWHERE: u32 = u32::MAX;
const CHILDREN: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Entry {
    due: u64,
    slot: u32,
}

/// Slots, each due at a time in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct TimerQueue {
    heap: Vec<Entry>,
    /// By slot.
    places: Vec<u32>,
}

impl TimerQueue {
    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.heap.first().map(|entry| entry.due)
    }

    /// Arms a slot, or arms it anew.
    pub(super) fn set(&mut self, slot: u32, due: u64) {
        let at = slot as usize;
        if self.places.len() <= at {
            self.places.resize(at + 1, NOWHERE);
        }
        let entry = Entry { due, slot };
        let place = match self.places[at] {
            NOWHERE => {
                self.heap.push(entry);
                self.heap.len() - 1
            }
            place => place as usize,
        };
        self.settle(place, entry);
    }

    /// Disarms a slot. Returns whether it was armed.
    pub(super) fn cancel(&mut self, slot: u32) -> bool {
        let Some(place) = self.places.get_mut(slot as usize).filter(|place| **place != NOWHERE) else { return false };
        let place = std::mem::replace(place, NOWHERE) as usize;
        // What is armed is in the heap, so the heap has a last entry; it takes over the place that becomes free.
        if let Some(last) = self.heap.pop()
            && place < self.heap.len()
        {
            self.settle(place, last);
        }
        true
    }

    /// Takes one that is due at `now`, the earliest first.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<u32> {
        let first = self.heap.first().filter(|entry| entry.due <= now)?.slot;
        self.cancel(first);
        Some(first)
    }

    /// Puts an entry into the heap, of which `place` is a hole: up or down to where it belongs.
    fn settle(&mut self, mut place: usize, entry: Entry) {
        while place > 0 {
            let parent = (place - 1) / CHILDREN;
            if self.heap[parent].due <= entry.due {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        loop {
            let first = place * CHILDREN + 1;
            let children = first..self.heap.len().min(first + CHILDREN);
            let Some(least) = children.min_by_key(|child| self.heap[*child].due) else { break };
            if entry.due <= self.heap[least].due {
                break;
            }
            self.put(place, self.heap[least]);
            place = least;
        }
        self.put(place, entry);
    }

    fn put(&mut self, place: usize, entry: Entry) {
        self.heap[place] = entry;
        // Fewer entries than slots, and those fit.
        self.places[entry.slot as usize] = place as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u32, u64),
        Cancel(u32),
        Pop(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..40u32, 0..200u64).prop_map(|(slot, due)| Step::Set(slot, due)),
            2 => (0..40u32).prop_map(Step::Cancel),
            1 => (0..200u64).prop_map(Step::Pop),
        ]
    }

    proptest! {
        #[test]
        fn the_queue_does_what_a_sorted_map_does(steps in prop::collection::vec(step(), 0..400)) {
            let mut queue = TimerQueue::default();
            let mut model = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Set(slot, due) => {
                        queue.set(slot, due);
                        model.insert(slot, due);
                    }
                    Step::Cancel(slot) => prop_assert_eq!(queue.cancel(slot), model.remove(&slot).is_some()),
                    Step::Pop(now) => {
                        let earliest = model.values().min().copied();
                        match queue.pop_due(now) {
                            Some(slot) => {
                                prop_assert_eq!(model.remove(&slot), earliest);
                                prop_assert!(earliest <= Some(now));
                            }
                            None => prop_assert!(earliest.is_none_or(|due| due > now)),
                        }
                    }
                }
                prop_assert_eq!(queue.next_due(), model.values().min().copied());
                prop_assert_eq!(queue.heap.len(), model.len());
            }
        }
    }

    #[test]
    fn all_that_is_due_comes_out_in_order_of_time() {
        let mut queue = TimerQueue::default();
        for slot in 0..1000 {
            queue.set(slot, u64::from(slot.wrapping_mul(7919) % 1000));
        }
        let order: Vec<u32> =
            std::iter::from_fn(|| queue.pop_due(499)).map(|slot| slot.wrapping_mul(7919) % 1000).collect();
        assert_eq!(order, (0..500).collect::<Vec<u32>>());
        assert_eq!(queue.next_due(), Some(500));
    }
}
