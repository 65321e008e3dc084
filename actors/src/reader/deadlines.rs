//! The deadlines of all clients of one arbiter: plain data, for one timer.
//!
//! A deadline that moves back is not moved here: its old entry comes up, its owner says when it is really due, and it
//! is entered anew. So the usual case, a deadline that is set and lifted again and again, costs a comparison. Bound:
//! one entry for each client, and one more each time its deadline moved forward; those of clients that are gone are
//! dropped when they are the most.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::job::ClientKey;
use crate::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: BinaryHeap<Reverse<(Instant, ClientKey)>>,
}

impl Deadlines {
    /// Enters a deadline. `entered` is the client's earliest entry, which it keeps for this.
    pub(crate) fn enter(&mut self, key: ClientKey, deadline: Instant, entered: &mut Option<Instant>) {
        if entered.is_none_or(|entered| deadline < entered) {
            *entered = Some(deadline);
            self.heap.push(Reverse((deadline, key)));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Drops the entries of clients that are gone.
    pub(crate) fn retain(&mut self, mut is_there: impl FnMut(ClientKey) -> bool) {
        self.heap.retain(|Reverse((_, key))| is_there(*key));
    }

    /// When the next entry comes up.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((time, _))| *time)
    }

    /// Takes out an entry that has come up.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Instant, ClientKey)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_deadline_that_moves_back_makes_no_second_entry() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let key = ClientKey { slot: 1, generation: 0 };
        let mut deadlines = Deadlines::default();
        let mut entered = None;
        deadlines.enter(key, at(10), &mut entered);
        deadlines.enter(key, at(20), &mut entered);
        assert_eq!(deadlines.pop(at(9)), None);
        assert_eq!(deadlines.pop(at(10)), Some((at(10), key)));
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn a_deadline_that_moves_forward_comes_up_in_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let key = ClientKey { slot: 1, generation: 0 };
        let mut deadlines = Deadlines::default();
        let mut entered = None;
        deadlines.enter(key, at(20), &mut entered);
        deadlines.enter(key, at(10), &mut entered);
        assert_eq!(entered, Some(at(10)));
        assert_eq!(deadlines.next(), Some(at(10)));
    }
}
