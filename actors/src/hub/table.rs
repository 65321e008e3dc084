//! The clients of one arbiter, by their keys. Bound: `max_clients`.

use crate::job::ClientKey;

/// A table of `T` whose keys are never reused: a slot is, but with another generation.
#[derive(Debug)]
pub(crate) struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Table<T> {
    /// Puts in what `make` makes for the key that it gets.
    pub(crate) fn insert(&mut self, make: impl FnOnce(ClientKey) -> T) -> ClientKey {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            // There are at most a million clients.
            (self.slots.len() - 1) as u32
        });
        let place = &mut self.slots[slot as usize];
        let key = ClientKey { slot, generation: place.generation };
        place.value = Some(make(key));
        key
    }

    pub(crate) fn get(&self, key: ClientKey) -> Option<&T> {
        let slot = self.slots.get(key.slot as usize)?;
        if slot.generation == key.generation { slot.value.as_ref() } else { None }
    }

    pub(crate) fn remove(&mut self, key: ClientKey) -> Option<T> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.slot);
        Some(value)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// All keys and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ClientKey, &T)> {
        self.slots.iter().enumerate().filter_map(|(slot, place)| {
            let key = ClientKey { slot: slot as u32, generation: place.generation };
            place.value.as_ref().map(|value| (key, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_client_that_left_finds_nobody() {
        let mut table = Table::default();
        let first = table.insert(|_| "first");
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert(|_| "second");
        assert_eq!(first.slot, second.slot);
        assert_eq!(table.get(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get(second), Some(&"second"));
        assert_eq!(table.len(), 1);
        assert_eq!(table.iter().collect::<Vec<_>>(), [(second, &"second")]);
    }
}
