//! Times as numbers of buckets: two significant bits, so a bucket's bounds lie at most a quarter apart.
//!
//! A worker sends one byte for each time it measured; the histogram is kept where the reply is written.

/// A range of times, by its number: four to each power of two from 64 ns on. The last has no upper bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bucket(u8);

/// How many buckets there are: up to 2⁴⁴ ns, which is almost five hours.
pub(crate) const BUCKETS: usize = (LAST_OCTAVE - FIRST_OCTAVE) as usize * 4 + 1;

const FIRST_OCTAVE: u32 = 6;
const LAST_OCTAVE: u32 = 44;

/// The bucket that a time in nanoseconds falls into.
#[inline]
pub(crate) fn bucket(nanos: u64) -> Bucket {
    let ns = nanos.max(1 << FIRST_OCTAVE);
    let octave = ns.ilog2();
    let quarter = (ns >> (octave - 2)) & 3;
    let number = (octave - FIRST_OCTAVE) as usize * 4 + quarter as usize;
    // There are fewer than 256 buckets.
    Bucket(number.min(BUCKETS - 1) as u8)
}

impl Bucket {
    pub(crate) fn index(self) -> usize {
        self.0.into()
    }
}

/// The upper bound of a bucket, in nanoseconds.
pub(crate) fn upper_bound(index: usize) -> u64 {
    let (octave, quarter) = (index / 4 + FIRST_OCTAVE as usize, index as u64 % 4);
    (5 + quarter) << (octave - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_lies_in_a_bucket_whose_bounds_are_at_most_a_quarter_apart() {
        for ns in (64..10_000).chain((1..1000).map(|n| n * 1_234_567)) {
            let index = bucket(ns).index();
            let upper = upper_bound(index);
            let lower = if index == 0 { 64 } else { upper_bound(index - 1) };
            assert!(lower <= ns && ns < upper, "{ns}: {lower}..{upper}");
            assert!(upper - lower <= ns / 4 + 1, "{ns}: {lower}..{upper}");
        }
    }

    #[test]
    fn what_is_too_short_or_too_long_lies_in_the_first_or_last() {
        assert_eq!(bucket(0).index(), 0);
        assert_eq!(bucket(u64::MAX).index(), BUCKETS - 1);
    }
}
