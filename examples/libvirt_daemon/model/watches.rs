//! Which registrations of clients want to be told of what.
//!
//! A client registers a callback with the number of an event and, if it likes, one domain; here stands what it asked for,
//! under the number that the registration got. Nobody says when a client leaves, so what is over is swept out when
//! there is twice as much as the last sweep left: the bound is twice the registrations that are open.

use std::collections::{HashMap, HashSet};

use super::uuid::Uuid;

/// The number of the event that tells of the steps in a domain's life: `VIR_DOMAIN_EVENT_ID_LIFECYCLE`.
pub const LIFECYCLE: i32 = 0;

/// How many kinds of events libvirt 9.0 knows: `VIR_DOMAIN_EVENT_ID_LAST`.
pub const EVENTS: i32 = 27;

/// There is no sweep below this many.
const FEW: usize = 64;

/// What a registration asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    pub event: i32,
    /// The one domain that it is about; else it is all of them.
    pub domain: Option<Uuid>,
}

/// All registrations, by their numbers.
#[derive(Debug)]
pub struct Watches {
    watches: HashMap<u32, Watch>,
    sweep_at: usize,
}

impl Default for Watches {
    fn default() -> Self {
        Self { watches: HashMap::new(), sweep_at: FEW }
    }
}

impl Watches {
    /// Takes a registration down. `open` tells which are still open, this one among them.
    pub fn insert(&mut self, number: u32, watch: Watch, open: impl FnOnce() -> HashSet<u32>) {
        self.watches.insert(number, watch);
        if self.watches.len() > self.sweep_at {
            let open = open();
            self.watches.retain(|number, _| open.contains(number));
            self.sweep_at = FEW.max(2 * self.watches.len());
        }
    }

    /// Forgets a registration.
    pub fn remove(&mut self, number: u32) {
        self.watches.remove(&number);
    }

    /// Whether a registration wants to be told of a step in this domain's life.
    pub fn wants_lifecycle(&self, number: u32, domain: Uuid) -> bool {
        self.watches
            .get(&number)
            .is_some_and(|watch| watch.event == LIFECYCLE && watch.domain.is_none_or(|wanted| wanted == domain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Uuid = Uuid([1; 16]);
    const OTHER: Uuid = Uuid([2; 16]);

    fn nothing_is_swept() -> HashSet<u32> {
        panic!("there are few")
    }

    #[test]
    fn a_registration_is_told_of_what_it_asked_for() {
        let mut watches = Watches::default();
        watches.insert(1, Watch { event: LIFECYCLE, domain: None }, nothing_is_swept);
        watches.insert(2, Watch { event: LIFECYCLE, domain: Some(ONE) }, nothing_is_swept);
        watches.insert(3, Watch { event: 1, domain: None }, nothing_is_swept);
        let wants = |watches: &Watches, domain| [1, 2, 3, 4].map(|number| watches.wants_lifecycle(number, domain));
        assert_eq!(wants(&watches, ONE), [true, true, false, false]);
        assert_eq!(wants(&watches, OTHER), [true, false, false, false]);
        watches.remove(1);
        assert_eq!(wants(&watches, OTHER), [false; 4]);
    }

    #[test]
    fn what_nobody_deregistered_is_swept_out_when_there_is_much_of_it() {
        let mut watches = Watches::default();
        let watch = Watch { event: LIFECYCLE, domain: None };
        // Each client leaves before the next comes, but for the first.
        for number in 0..10_000 {
            watches.insert(number, watch, || HashSet::from([0, number]));
            assert!(watches.watches.len() <= FEW);
        }
        assert!(watches.wants_lifecycle(0, ONE) && watches.wants_lifecycle(9_999, ONE));
        for number in 10_000..11_000 {
            watches.insert(number, watch, || (10_000..=number).collect());
        }
        assert!((10_000..11_000).all(|number| watches.wants_lifecycle(number, ONE)));
    }
}
