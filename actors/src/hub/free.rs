//! Which of the records of a hub are free: numbers, of which the lowest is used first.
//!
//! Plain data of one thread. So the calls of one turn have records behind each other, and their stages, which a worker
//! reads on another core, lie on few cache lines; and after a burst the same few records are used again and again. One
//! bit for each number that was ever free.

#[derive(Debug, Default)]
pub(super) struct Free {
    words: Vec<u64>,
    /// The words before this one have nothing.
    first: usize,
}

impl Free {
    /// This number is free.
    #[inline]
    pub(super) fn put(&mut self, number: u32) {
        let word = number as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (number % 64);
        self.first = self.first.min(word);
    }

    /// The lowest number that is free, no longer.
    #[inline]
    pub(super) fn take(&mut self) -> Option<u32> {
        loop {
            let word = self.words.get_mut(self.first)?;
            if *word == 0 {
                self.first += 1;
                continue;
            }
            let bit = word.trailing_zeros();
            *word &= *word - 1;
            // It was put in as a u32.
            return Some(self.first as u32 * 64 + bit);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_number_is_taken_first_and_each_as_often_as_it_was_put_in() {
        let mut free = Free::default();
        assert_eq!(free.take(), None);
        [200, 3, 64, 63].into_iter().for_each(|number| free.put(number));
        assert_eq!((free.take(), free.take(), free.len()), (Some(3), Some(63), 2));
        free.put(5);
        let left: Vec<u32> = std::iter::from_fn(|| free.take()).collect();
        assert_eq!(left, [5, 64, 200]);
        assert_eq!((free.take(), free.len()), (None, 0));
        free.put(0);
        assert_eq!(free.take(), Some(0));
    }
}
