//! How often a timer fires.

use std::time::Duration;

/// How often a timer fires. The next expiry counts from the dispatch, so a timer that was late fires once, not often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interval {
    /// Never: the timer is kept for a later update.
    Disabled,
    /// In every iteration of the loop, which does not sleep meanwhile.
    EveryIteration,
    /// Again and again after this time. Zero means [`Interval::EveryIteration`].
    Every(Duration),
}

impl Interval {
    /// As libvirt's interface has it: negative is disabled, zero is every iteration, the rest are milliseconds.
    pub fn from_millis(millis: i32) -> Interval {
        match u64::try_from(millis) {
            Err(_) => Interval::Disabled,
            Ok(0) => Interval::EveryIteration,
            Ok(millis) => Interval::Every(Duration::from_millis(millis)),
        }
    }

    /// The period in nanoseconds, or `None` for a timer that never fires. A period of centuries is as good as longer.
    pub(super) fn nanos(self) -> Option<u64> {
        match self {
            Interval::Disabled => None,
            Interval::EveryIteration => Some(0),
            Interval::Every(period) => Some(u64::try_from(period.as_nanos()).unwrap_or(u64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libvirts_milliseconds_have_three_meanings() {
        assert_eq!(Interval::from_millis(-1), Interval::Disabled);
        assert_eq!(Interval::from_millis(i32::MIN), Interval::Disabled);
        assert_eq!(Interval::from_millis(0), Interval::EveryIteration);
        assert_eq!(Interval::from_millis(20), Interval::Every(Duration::from_millis(20)));
    }

    #[test]
    fn any_duration_is_a_period() {
        assert_eq!(Interval::Every(Duration::ZERO).nanos(), Interval::EveryIteration.nanos());
        assert_eq!(Interval::Every(Duration::MAX).nanos(), Some(u64::MAX));
    }
}
