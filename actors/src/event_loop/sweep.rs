//! When to look again at which descriptors, to find those that were closed under their watch.
//!
//! Plain arithmetic on numbers and times that it is given. Every slot comes up within a second, whenever it was added and
//! closed, a bounded number at a time, so that a loop with many descriptors never stalls for all of them at once, and one
//! with few wakes up about twice a second.

use std::ops::Range;

/// How long one round over all descriptors takes. Below half the second that is promised: what is added after a round has
/// begun has its turn in the next one.
pub(super) const ROUND: u64 = 440_000_000;

/// How many descriptors are looked at in one go, at a few hundred nanoseconds each. Vacant slots cost next to nothing,
/// so it is the descriptors that count, taken as spread evenly over the slots.
const STRIDE: u32 = 512;

#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The round under way: the slots that are left of it, how many at a time, and after how long each time.
    cursor: u32,
    end: u32,
    stride: u32,
    pause: u64,
    due: Option<u64>,
}

impl Sweep {
    /// When the next part is due; `None` while there is nothing to look at.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.due
    }

    /// Says that there are descriptors. Starts the clock where it stands still.
    pub(super) fn start(&mut self, now: u64) {
        self.due.get_or_insert(now.saturating_add(ROUND));
    }

    /// The slots to look at now, of `n_slots` with `n_used` descriptors. What was missed in a stall is not caught up
    /// with.
    pub(super) fn step(&mut self, now: u64, n_slots: u32, n_used: u32) -> Range<u32> {
        if self.due.is_none_or(|due| due > now) {
            return 0..0;
        }
        if n_used == 0 {
            *self = Sweep::default();
            return 0..0;
        }
        if self.cursor >= self.end {
            let n_steps = n_used.div_ceil(STRIDE);
            (self.cursor, self.end, self.stride) = (0, n_slots, n_slots.div_ceil(n_steps));
            self.pause = ROUND / u64::from(n_steps);
        }
        let from = self.cursor;
        self.cursor = self.end.min(from.saturating_add(self.stride));
        self.due = Some(now.saturating_add(self.pause));
        from..self.cursor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_comes_up_once_in_a_round_a_few_at_a_time() {
        for n_slots in [1, 511, 512, 513, 100_000] {
            let mut sweep = Sweep::default();
            sweep.start(0);
            let mut seen = vec![0; n_slots as usize];
            while let Some(now) = sweep.next_due().filter(|now| *now < 2 * ROUND) {
                let range = sweep.step(now, n_slots, n_slots);
                assert!(range.len() <= STRIDE as usize);
                range.for_each(|slot| seen[slot as usize] += 1);
            }
            assert!(seen.iter().all(|count| (1..=2).contains(count)), "{n_slots} slots");
        }
    }

    #[test]
    fn no_slot_waits_for_longer_than_a_second_however_their_number_changes() {
        const SECOND: u64 = 1_000_000_000;
        let mut random = 1_u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as u32
        };
        for _ in 0..200 {
            let mut sweep = Sweep::default();
            // When each slot was looked at last, or added.
            let mut looked: Vec<u64> = Vec::new();
            let mut now = 0;
            while now < 5 * SECOND {
                if next() % 3 == 0 && looked.len() < 5000 {
                    for _ in 0..1 + next() % 2000 {
                        looked.push(now);
                        sweep.start(now);
                    }
                }
                let n_slots = looked.len() as u32;
                for slot in sweep.step(now, n_slots, n_slots) {
                    looked[slot as usize] = now;
                }
                let oldest = looked.iter().min().copied().unwrap_or(now);
                assert!(now - oldest <= SECOND, "{n_slots} slots: {} ms", (now - oldest) / 1_000_000);
                let later = now + u64::from(next() % 300) * 1_000_000;
                now = sweep.next_due().map_or(later, |due| due.min(later)).max(now);
            }
        }
    }

    #[test]
    fn vacant_slots_cost_no_wake_ups() {
        let mut sweep = Sweep::default();
        sweep.start(0);
        assert_eq!(sweep.step(ROUND, 100_000, 3), 0..100_000);
        assert_eq!(sweep.next_due(), Some(2 * ROUND));
    }

    #[test]
    fn a_stall_is_not_caught_up_with() {
        let mut sweep = Sweep::default();
        sweep.start(0);
        assert_eq!(sweep.step(100 * ROUND, 1000, 1000), 0..500);
        assert_eq!(sweep.step(100 * ROUND, 1000, 1000), 0..0);
        assert_eq!(sweep.next_due(), Some(100 * ROUND + ROUND / 2));
    }

    #[test]
    fn the_clock_stands_still_while_there_is_nothing_to_look_at() {
        let mut sweep = Sweep::default();
        assert_eq!(sweep.next_due(), None);
        sweep.start(0);
        assert_eq!(sweep.step(ROUND, 1000, 0), 0..0);
        assert_eq!(sweep.next_due(), None);
    }
}
