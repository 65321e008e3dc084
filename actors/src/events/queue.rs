//! The queue of one subscription: plain data, without clients, sockets or time.
//!
//! Each event has a number, counted up from the beginning of the subscription, whether or not it stays in the queue.
//! What was dropped between two delivered events is the gap between their numbers, so every event is either delivered
//! or counted as lost, exactly once, by whatever policy it was dropped and wherever on its way.
//!
//! Bound: as many events as its subscription asked for; their bytes are counted by the client's
//! [`Outlet`](super::outlet).

use std::collections::VecDeque;

/// The events of one subscription that wait.
#[derive(Debug)]
pub(crate) struct EventQueue<T> {
    waiting: VecDeque<(u64, T)>,
    bound: usize,
    /// The number of the next event that comes.
    next: u64,
    /// The number that the next delivered event has if none was dropped.
    due: u64,
}

/// A burst's room is given back when it is over; so much is kept.
const KEPT: usize = 16;

impl<T> EventQueue<T> {
    pub(crate) fn new(bound: usize) -> Self {
        Self { waiting: VecDeque::new(), bound, next: 0, due: 0 }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= self.bound
    }

    /// The event that is delivered next.
    pub(crate) fn front(&self) -> Option<&T> {
        self.waiting.front().map(|(_, event)| event)
    }

    /// An event has come and waits. It is for the caller to make room first.
    pub(crate) fn push(&mut self, event: T) {
        self.waiting.push_back((self.next, event));
        self.next += 1;
    }

    /// So many events have come and were dropped.
    pub(crate) fn skip(&mut self, events: u64) {
        self.next += events;
    }

    /// Drops the event that has waited longest.
    pub(crate) fn drop_oldest(&mut self) -> Option<T> {
        self.waiting.pop_front().map(|(_, event)| event)
    }

    /// Delivers the event that has waited longest, with how many were dropped since the last delivered one.
    pub(crate) fn pop(&mut self) -> Option<(T, u64)> {
        let (number, event) = self.waiting.pop_front()?;
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT {
            self.waiting = VecDeque::new();
        }
        let lost = number - self.due;
        self.due = number + 1;
        Some((event, lost))
    }

    /// What waits, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.waiting.iter().map(|(_, event)| event)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a test does with a queue.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Publish,
        Skip(u8),
        Deliver,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![4 => Just(Step::Publish), 1 => (0..4u8).prop_map(Step::Skip), 3 => Just(Step::Deliver)]
    }

    /// The naive one: every event that ever came, and what became of it.
    #[derive(Default)]
    struct Model {
        events: Vec<Fate>,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Fate {
        Waits,
        Dropped,
        Delivered,
    }

    impl Model {
        fn waiting(&self) -> Vec<usize> {
            (0..self.events.len()).filter(|&event| self.events[event] == Fate::Waits).collect()
        }

        /// The event that is delivered, and how many before it were dropped since the last one.
        fn deliver(&mut self) -> Option<(usize, u64)> {
            let event = *self.waiting().first()?;
            let last =
                self.events[..event].iter().rposition(|fate| *fate == Fate::Delivered).map_or(0, |last| last + 1);
            self.events[event] = Fate::Delivered;
            Some((event, (event - last) as u64))
        }
    }

    proptest! {
        #[test]
        fn each_event_is_delivered_in_order_or_counted_as_lost_exactly_once(
            bound in 1..6usize,
            oldest in any::<bool>(),
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let (mut queue, mut model) = (EventQueue::new(bound), Model::default());
            let (mut delivered, mut lost) = (0, 0);
            for step in steps {
                match step {
                    Step::Publish => {
                        let event = model.events.len();
                        model.events.push(Fate::Waits);
                        if !queue.is_full() {
                            queue.push(event);
                        } else if oldest {
                            let dropped = queue.drop_oldest().unwrap();
                            prop_assert_eq!(dropped, model.waiting()[0]);
                            model.events[dropped] = Fate::Dropped;
                            queue.push(event);
                        } else {
                            queue.skip(1);
                            model.events[event] = Fate::Dropped;
                        }
                    }
                    Step::Skip(events) => {
                        queue.skip(events.into());
                        model.events.extend(std::iter::repeat_n(Fate::Dropped, events.into()));
                    }
                    Step::Deliver => {
                        let got = queue.pop();
                        prop_assert_eq!(got, model.deliver());
                        if let Some((_, gap)) = got {
                            delivered += 1;
                            lost += gap;
                        }
                    }
                }
                prop_assert!(queue.len() <= bound);
                prop_assert_eq!(queue.len(), model.waiting().len());
            }
            // One that comes at the very end tells of everything that was dropped and not told yet.
            while let Some((_, gap)) = queue.pop() {
                delivered += 1;
                lost += gap;
            }
            queue.push(usize::MAX);
            lost += queue.pop().unwrap().1;
            prop_assert_eq!(delivered + lost, model.events.len() as u64);
        }
    }

    #[test]
    fn a_burst_leaves_no_memory_behind() {
        let mut queue = EventQueue::new(1000);
        (0..1000).for_each(|event| queue.push(event));
        while queue.pop().is_some() {}
        assert_eq!(queue.waiting.capacity(), 0);
    }
}
