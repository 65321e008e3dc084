//! Which of the records of a hub are free: numbers, of which low ones are used first, 64 neighbours after each other.
//!
//! Plain data of one thread. So the calls of one turn have records behind each other, and their stages, which a worker
//! reads on another core, lie on few cache lines; and after a burst the same few records are used again and again. One
//! bit for each number that was ever free, and above them one for each word of these, and so on: whatever their number,
//! the lowest word is found by one look for each of these levels, at most six.

#[derive(Debug, Default)]
pub(super) struct Free {
    /// The word that is being used, and which it is: on no level meanwhile.
    word: u64,
    place: usize,
    /// The numbers; and above each level whether a word of it has a bit. The highest is one word, or there is none.
    levels: Vec<Vec<u64>>,
}

impl Free {
    /// This number is free.
    #[inline]
    pub(super) fn put(&mut self, number: u32) {
        let number = number as usize;
        if number / 64 == self.place {
            self.word |= 1 << (number % 64);
        } else {
            self.put_back(number);
        }
    }

    /// A low number that is free, no longer.
    #[inline]
    pub(super) fn take(&mut self) -> Option<u32> {
        if self.word == 0 {
            self.next_word()?;
        }
        let bit = self.word.trailing_zeros() as usize;
        self.word &= self.word - 1;
        // It was put in as a u32.
        Some((self.place * 64 + bit) as u32)
    }

    /// What is of another word.
    #[inline(never)]
    fn put_back(&mut self, number: usize) {
        let mut index = number;
        if self.levels.is_empty() || index / 64 >= self.levels[0].len() {
            self.grow(index);
        }
        for level in &mut self.levels {
            let word = &mut level[index / 64];
            let had_any = *word != 0;
            *word |= 1 << (index % 64);
            if had_any {
                return;
            }
            index /= 64;
        }
    }

    /// Takes the lowest word that has a number, for the one that is used up.
    #[inline(never)]
    fn next_word(&mut self) -> Option<()> {
        let mut place = 0;
        for level in self.levels.iter().skip(1).rev() {
            if level[place] == 0 {
                // Only the highest can have nothing: below a bit there is one.
                return None;
            }
            place = place * 64 + level[place].trailing_zeros() as usize;
        }
        let numbers = self.levels.first_mut()?;
        (self.word, self.place) = (std::mem::take(&mut numbers[place]), place);
        for level in self.levels.iter_mut().skip(1) {
            let word = &mut level[place / 64];
            *word &= !(1 << (place % 64));
            if *word != 0 {
                break;
            }
            place /= 64;
        }
        (self.word != 0).then_some(())
    }

    /// Makes room for this number on every level, and more levels where it takes them.
    #[cold]
    fn grow(&mut self, mut index: usize) {
        for height in 0.. {
            index /= 64;
            if height == self.levels.len() {
                // What is below may have bits already.
                let below = self.levels.last().and_then(|level| level.first());
                let first = u64::from(below.is_some_and(|word| *word != 0));
                self.levels.push(vec![first]);
            }
            let level = &mut self.levels[height];
            if index >= level.len() {
                level.resize(index + 1, 0);
            }
            if level.len() == 1 {
                return;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let words = self.levels.first().into_iter().flatten().chain([&self.word]);
        words.map(|word| word.count_ones() as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn low_numbers_are_taken_first_and_neighbours_after_each_other() {
        let mut free = Free::default();
        assert_eq!(free.take(), None);
        [200, 3, 64, 63].into_iter().for_each(|number| free.put(number));
        assert_eq!((free.take(), free.take(), free.len()), (Some(3), Some(63), 2));
        assert_eq!(free.take(), Some(64));
        [5, 70].into_iter().for_each(|number| free.put(number));
        let left: Vec<u32> = std::iter::from_fn(|| free.take()).collect();
        assert_eq!(left, [70, 5, 200], "70 is a neighbour of 64");
        assert_eq!((free.take(), free.len()), (None, 0));
        free.put(0);
        assert_eq!(free.take(), Some(0));
    }

    #[test]
    fn each_number_is_taken_as_often_as_it_was_put_in_whatever_their_order() {
        for most in [64, 65, 4_096, 4_097, 1 << 20] {
            let (mut free, mut set, mut random) = (Free::default(), BTreeSet::new(), 1_u64);
            for _ in 0..20_000 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let number = (random >> 33) as u32 % most;
                if random >> 62 == 0 {
                    match free.take() {
                        Some(number) => assert!(set.remove(&number)),
                        None => assert!(set.is_empty()),
                    }
                } else if set.insert(number) {
                    free.put(number);
                }
            }
            assert_eq!(free.len(), set.len());
            while let Some(number) = free.take() {
                assert!(set.remove(&number));
            }
            assert!(set.is_empty());
        }
    }

    #[test]
    fn a_million_numbers_take_four_levels() {
        let mut free = Free::default();
        (0..1_000_000).for_each(|number| free.put(number));
        assert_eq!(free.levels.iter().map(Vec::len).collect::<Vec<_>>(), [15_625, 245, 4, 1]);
        assert!((0..1_000_000).all(|number| free.take() == Some(number)));
    }
}
