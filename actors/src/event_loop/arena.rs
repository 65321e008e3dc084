//! Values in numbered slots: constant time for everything, and a slot is used again after its value has left.
//!
//! Whoever keeps a slot's number must know by other means that the value is still the same.

#[derive(Debug)]
pub(super) struct Arena<T> {
    slots: Vec<Option<T>>,
    /// Taken from the end, so that the slot that was used last, and is still in the cache, is used next.
    vacant: Vec<u32>,
}

impl<T> Default for Arena<T> {
    fn default() -> Arena<T> {
        Arena { slots: Vec::new(), vacant: Vec::new() }
    }
}

impl<T> Arena<T> {
    /// The slot of the new value, or the value where all numbers are taken.
    pub(super) fn insert(&mut self, value: T) -> Result<u32, T> {
        if let Some(slot) = self.vacant.pop() {
            self.slots[slot as usize] = Some(value);
            return Ok(slot);
        }
        // The highest number stands for "none" in links between slots.
        match u32::try_from(self.slots.len()) {
            Ok(slot) if slot < u32::MAX => {
                self.slots.push(Some(value));
                Ok(slot)
            }
            _ => Err(value),
        }
    }

    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let value = self.slots.get_mut(slot as usize)?.take()?;
        self.vacant.push(slot);
        Some(value)
    }

    /// How many slots there are, with a value or without: one more than the highest number in use so far.
    pub(super) fn n_slots(&self) -> u32 {
        // `insert` adds no slot beyond this.
        self.slots.len() as u32
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again() {
        let mut arena = Arena::default();
        assert_eq!((arena.insert('a'), arena.insert('b'), arena.insert('c')), (Ok(0), Ok(1), Ok(2)));
        assert_eq!((arena.remove(1), arena.remove(1), arena.remove(9)), (Some('b'), None, None));
        assert_eq!((arena.len(), arena.n_slots(), arena.get(1)), (2, 3, None));
        assert_eq!(arena.insert('d'), Ok(1));
        assert_eq!(arena.iter_mut().map(|value| *value).collect::<String>(), "adc");
    }
}
