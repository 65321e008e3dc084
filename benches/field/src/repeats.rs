//! What others disturb is measured again, but not without end: each measurement at most [`N_REPEATS`] times, and all of
//! them together one time in [`ONE_IN`]. So a run ends in time on a machine that others use, too; what stays disturbed is
//! told as such.

use std::time::Duration;

use crate::Result;

/// Processors that others use, beyond which a measurement is disturbed.
pub const DISTURBED: f64 = 0.2;
/// How many times each is repeated at most.
pub const N_REPEATS: usize = 2;
/// To so many measurements there is one repeat. Where few were made yet, one may still have all of its own.
pub const ONE_IN: usize = 4;

/// What the column `disturbed` of the tables is.
pub const TOLD: &str = "`disturbed`: rounds during which others used more than 0.2 processors, after all repeats.";

/// How many there have been of both.
#[derive(Default)]
pub struct Repeats {
    n_measured: usize,
    n_repeats: usize,
}

/// The least disturbed of some measurements of the same.
pub struct Least<T> {
    pub value: T,
    pub repeats: usize,
    pub foreign_cpus: f64,
}

impl<T> Least<T> {
    pub fn is_disturbed(&self) -> bool {
        self.foreign_cpus > DISTURBED
    }
}

impl Repeats {
    /// Measures, and again if it was disturbed; the least disturbed counts. `foreign_cpus` are the processors that others
    /// used meanwhile.
    pub fn least_disturbed<T>(
        &mut self,
        mut measure: impl FnMut() -> Result<T>,
        foreign_cpus: impl Fn(&T) -> f64,
    ) -> Result<Least<T>> {
        self.n_measured += 1;
        let value = measure()?;
        let mut least = Least { foreign_cpus: foreign_cpus(&value), value, repeats: 0 };
        while least.is_disturbed() && least.repeats < N_REPEATS && self.n_repeats < most(self.n_measured) {
            self.n_repeats += 1;
            least.repeats += 1;
            let other = measure()?;
            let foreign_cpus = foreign_cpus(&other);
            if foreign_cpus < least.foreign_cpus {
                (least.value, least.foreign_cpus) = (other, foreign_cpus);
            }
        }
        Ok(least)
    }
}

/// The most repeats of so many measurements.
fn most(n_measured: usize) -> usize {
    N_REPEATS + n_measured / ONE_IN
}

/// How long measurements will take that take so long each: undisturbed, and at most.
pub fn estimate(each: impl IntoIterator<Item = Duration>) -> String {
    let (mut n, mut total, mut longest) = (0, Duration::ZERO, Duration::ZERO);
    for time in each {
        (n, total, longest) = (n + 1, total + time, longest.max(time));
    }
    let at_most = total + total / ONE_IN as u32 + longest * N_REPEATS as u32;
    format!("{n} measurements, about {}; if others use the machine, up to about {}", minutes(total), minutes(at_most))
}

pub fn minutes(time: Duration) -> String {
    let seconds = time.as_secs_f64().ceil() as u64;
    format!("{}:{:02} min", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(repeats: &mut Repeats, foreign: &[f64]) -> Option<(f64, usize)> {
        let mut foreign = foreign.iter().copied();
        let least = repeats.least_disturbed(|| Ok(foreign.next().ok_or("there is an end to it")?), |value| *value);
        least.ok().map(|least| (least.value, least.repeats))
    }

    #[test]
    fn what_others_disturb_is_measured_again_and_the_least_disturbed_counts() {
        assert_eq!(measured(&mut Repeats::default(), &[0.1]), Some((0.1, 0)));
        assert_eq!(measured(&mut Repeats::default(), &[0.9, 0.1]), Some((0.1, 1)));
        assert_eq!(measured(&mut Repeats::default(), &[0.9, 0.3, 0.5, 0.0]), Some((0.3, 2)));
        assert_eq!(measured(&mut Repeats::default(), &[0.9]), None);
    }

    #[test]
    fn however_much_others_disturb_the_repeats_are_a_part_of_the_measurements() {
        let mut repeats = Repeats::default();
        let n_repeats: usize = (0..100).filter_map(|_| measured(&mut repeats, &[0.9; 9])).map(|(_, n)| n).sum();
        assert_eq!(n_repeats, 100 / ONE_IN + N_REPEATS);
    }

    #[test]
    fn what_is_told_is_what_is_so() {
        assert!(TOLD.contains(&format!("{DISTURBED} processors")));
    }

    #[test]
    fn the_estimate_has_the_time_of_all_and_that_of_the_repeats() {
        let text = estimate([Duration::from_secs(60); 4]);
        assert_eq!(text, "4 measurements, about 4:00 min; if others use the machine, up to about 7:00 min");
    }
}
