//! A queue that is fair between clients: round robin by client, first in first out within one.
//!
//! Plain data. A client that has something in it stands in a ring; who is at its front gives items of one turn's worth
//! and goes to the back. Items that take no time to speak of so come in runs, whose replies leave in one write; one that
//! takes longer than a turn is a turn. As long as a client has something in it, there is something kept about it.
//! All operations but [`Fair::retain`] are O(1). It has no bound of its own: what is in it carries its permit.

use std::collections::{HashMap, VecDeque};

const NONE: usize = usize::MAX;

/// The lines of so many clients are kept when they are empty.
const KEPT: usize = 64;

/// What the items that a client gives in one turn may take in all, but for the last: a fifth of what a worker takes at
/// once, and little beside what waking one costs.
pub(crate) const TURN_NS: u64 = 10_000;

#[derive(Debug)]
pub(crate) struct Fair<T, S> {
    /// The line of each client that has something in it.
    lines: HashMap<u64, usize>,
    slots: Vec<Line<T, S>>,
    free: Vec<usize>,
    front: usize,
    back: usize,
    len: usize,
    /// What the client at the front has given in this turn.
    given_ns: u64,
}

/// What one client has in the queue, and its neighbours in the ring.
#[derive(Debug)]
struct Line<T, S> {
    client: u64,
    /// What is kept about the client.
    kept: S,
    items: VecDeque<T>,
    before: usize,
    behind: usize,
}

impl<T, S> Default for Fair<T, S> {
    fn default() -> Self {
        Self {
            lines: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            front: NONE,
            back: NONE,
            len: 0,
            given_ns: 0,
        }
    }
}

impl<T, S: Default> Fair<T, S> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds an item behind those of its client; a client that has none joins the ring at its back.
    pub(crate) fn push_back(&mut self, client: u64, item: T) {
        self.len += 1;
        let line = self.lines.get(&client).copied().unwrap_or_else(|| {
            let line = self.open(client);
            self.link_back(line);
            line
        });
        self.slots[line].items.push_back(item);
    }

    /// Adds an item before those of its client, and puts the client to the front of the ring.
    pub(crate) fn push_front(&mut self, client: u64, item: T) {
        self.len += 1;
        let line = match self.lines.get(&client).copied() {
            Some(line) => {
                self.unlink(line);
                line
            }
            None => self.open(client),
        };
        self.link_front(line);
        self.slots[line].items.push_front(item);
    }

    /// The item that [`Self::pop_with`] takes next.
    pub(crate) fn peek(&self) -> Option<&T> {
        self.slots.get(self.front)?.items.front()
    }

    /// Takes the next item; `look` says how many nanoseconds it takes, and what else is to be known of it, from what is
    /// kept about its client.
    pub(crate) fn pop_with<R>(&mut self, look: impl FnOnce(&T, &mut S) -> (u64, R)) -> Option<(T, R)> {
        let line = self.front;
        let Line { items, kept, .. } = self.slots.get_mut(line)?;
        let item = items.pop_front()?;
        let (ns, seen) = look(&item, kept);
        self.len -= 1;
        self.given_ns = self.given_ns.saturating_add(ns);
        if self.slots[line].items.is_empty() {
            self.unlink(line);
            self.close(line);
        } else if self.given_ns >= TURN_NS {
            self.unlink(line);
            self.link_back(line);
        }
        Some((item, seen))
    }

    /// Takes the next item, which is a turn.
    #[cfg(test)]
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.pop_with(|_, _| (TURN_NS, ())).map(|(item, ())| item)
    }

    /// Drops what is not to be kept; the order of the rest stays.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let mut line = self.front;
        while line != NONE {
            let Line { items, behind, .. } = &mut self.slots[line];
            let next = *behind;
            let before = items.len();
            items.retain(&mut keep);
            self.len -= before - items.len();
            if items.is_empty() {
                self.unlink(line);
                self.close(line);
            }
            line = next;
        }
    }

    fn open(&mut self, client: u64) -> usize {
        let line = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Line { client, kept: S::default(), items: VecDeque::new(), before: NONE, behind: NONE });
            self.slots.len() - 1
        });
        (self.slots[line].client, self.slots[line].kept) = (client, S::default());
        self.lines.insert(client, line);
        line
    }

    fn close(&mut self, line: usize) {
        self.lines.remove(&self.slots[line].client);
        if self.len == 0 && self.slots.len() > KEPT {
            // What a burst of clients has allocated is given back when it is over.
            *self = Self::default();
        } else {
            self.free.push(line);
        }
    }

    fn link_back(&mut self, line: usize) {
        (self.slots[line].before, self.slots[line].behind) = (self.back, NONE);
        match self.back {
            NONE => self.front = line,
            back => self.slots[back].behind = line,
        }
        self.back = line;
    }

    fn link_front(&mut self, line: usize) {
        self.given_ns = 0;
        (self.slots[line].before, self.slots[line].behind) = (NONE, self.front);
        match self.front {
            NONE => self.back = line,
            front => self.slots[front].before = line,
        }
        self.front = line;
    }

    fn unlink(&mut self, line: usize) {
        let (before, behind) = (self.slots[line].before, self.slots[line].behind);
        match before {
            NONE => (self.front, self.given_ns) = (behind, 0),
            before => self.slots[before].behind = behind,
        }
        match behind {
            NONE => self.back = before,
            behind => self.slots[behind].before = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &mut Fair<u32, ()>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    /// Items of client `n` are the numbers from `10 * n` on.
    fn queue(items: &[u32]) -> Fair<u32, ()> {
        let mut queue = Fair::default();
        items.iter().for_each(|&item| queue.push_back(u64::from(item) / 10, item));
        queue
    }

    #[test]
    fn clients_take_turns_and_each_keeps_its_order() {
        let mut queue = queue(&[10, 11, 12, 13, 20, 30, 31]);
        assert_eq!((queue.len(), queue.peek()), (7, Some(&10)));
        assert_eq!(drain(&mut queue), [10, 20, 30, 11, 31, 12, 13]);
        assert_eq!((queue.len(), queue.peek()), (0, None));
    }

    #[test]
    fn quick_items_of_a_client_come_in_runs_of_one_turn() {
        let mut queue = queue(&[10, 11, 12, 13, 14, 20, 21, 30]);
        let mut pop = || queue.pop_with(|_, _| (TURN_NS / 2, ())).map(|(item, ())| item);
        let first: Vec<u32> = std::iter::from_fn(&mut pop).take(3).collect();
        assert_eq!(first, [10, 11, 20]);
        queue.push_front(3, 31);
        let pop = || queue.pop_with(|_, _| (TURN_NS / 2, ())).map(|(item, ())| item);
        let rest: Vec<u32> = std::iter::from_fn(pop).collect();
        assert_eq!(rest, [31, 30, 21, 12, 13, 14]);
    }

    #[test]
    fn what_comes_back_is_first_of_its_client_and_its_client_first_of_all() {
        let mut queue = queue(&[10, 20, 21, 30]);
        queue.push_front(2, 25);
        assert_eq!(drain(&mut queue), [25, 10, 30, 20, 21]);
        queue.push_front(4, 40);
        queue.push_front(4, 41);
        assert_eq!(drain(&mut queue), [41, 40]);
    }

    #[test]
    fn what_is_not_kept_leaves_no_trace() {
        let mut queue = queue(&[10, 11, 20, 30, 31]);
        queue.retain(|&item| item != 10 && item != 20);
        assert_eq!(queue.len(), 3);
        queue.push_back(2, 21);
        assert_eq!(drain(&mut queue), [11, 30, 21, 31]);
        queue.push_back(1, 10);
        queue.retain(|_| false);
        assert_eq!((queue.len(), queue.pop()), (0, None));
    }
}
