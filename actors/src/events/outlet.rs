//! The outlet of one client: its subscriptions, and what waits in their queues for its output to have room.
//!
//! Plain code on the thread of the client's hub. The client's state puts events in and takes out packets, in the order
//! in which the events came, whichever subscription they are of.
//!
//! Bounds: `max_client_subscriptions`; the queue of each subscription; `max_client_event_bytes` for all that waits in
//! them. Beyond the last, events are dropped as if the queue were full. The limit is one of its own, because what
//! counts against `max_client_output` holds the client's calls, and a client that falls behind with its events is to
//! be answered all the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use postroom_protocol::rpc::Format;

use crate::events::frame::{Frame, Pieces, cost};
use crate::events::inlet::{Begin, Counts, To};
use crate::events::queue::EventQueue;
use crate::events::{Described, Overflow};

/// The subscriptions of one client.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    subscriptions: BTreeMap<u32, Subscribed>,
    /// The subscriptions with events, by the place of their first one in what came to this client.
    order: BTreeMap<u64, u32>,
    /// The place of the next event.
    next: u64,
    /// What the events that wait cost.
    bytes: u64,
}

#[derive(Debug)]
struct Subscribed {
    event: u32,
    frame: Frame,
    overflow: Overflow,
    bound: usize,
    queue: EventQueue<Waiting>,
    /// The numbers of the next events to all its kind, and to it alone.
    expected: (u64, u64),
    ended: Arc<AtomicBool>,
    counts: Arc<[Counts]>,
}

#[derive(Debug)]
struct Waiting {
    place: u64,
    value: Bytes,
}

/// An event was dropped whose client wants no gap: by which bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overflowed {
    /// The subscription's own, which this is.
    Queue(u64),
    /// That of all that waits for the client.
    Bytes,
    /// On its way to the hub.
    Way,
}

impl Outlet {
    pub(crate) fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    /// Whether any event waits.
    pub(crate) fn has_events(&self) -> bool {
        !self.order.is_empty()
    }

    /// A subscription begins.
    pub(crate) fn begin(&mut self, begin: Begin, event: &Described, format: Format) {
        let Begin { subscription, event: index, from, overflow, queue: bound, serial, ended, counts, .. } = begin;
        let (frame, queue) = (Frame::new(event, serial, format), EventQueue::new(bound));
        let subscribed = Subscribed { event: index, frame, overflow, bound, queue, expected: (from, 0), ended, counts };
        self.subscriptions.insert(subscription, subscribed);
    }

    /// A subscription has ended: nothing of it is delivered any more.
    pub(crate) fn end(&mut self, subscription: u32) {
        let Some(ended) = self.subscriptions.remove(&subscription) else { return };
        if let Some(first) = ended.queue.front() {
            self.order.remove(&first.place);
        }
        self.bytes -= ended.cost();
    }

    /// An event has come for a subscription, which may not be there any more. `most` is what may wait in bytes.
    pub(crate) fn offer(&mut self, subscription: u32, to: To, value: &Bytes, most: u64) -> Result<(), Overflowed> {
        let Some(it) = self.subscriptions.get_mut(&subscription) else { return Ok(()) };
        let (expected, number) = match to {
            To::All(number) => (&mut it.expected.0, number),
            To::One(_, number) => (&mut it.expected.1, number),
        };
        // One that was published before this subscription.
        let Some(missed) = number.checked_sub(*expected) else { return Ok(()) };
        *expected = number + 1;
        it.lose(missed)?;
        let cost = cost(value);
        // An event may be bigger than what may wait: one of them fits into what is empty.
        let is_over = |bytes: u64| bytes > 0 && bytes + cost > most;
        let is_full = |it: &Subscribed, bytes: u64| it.queue.is_full() || is_over(bytes);
        if is_full(it, self.bytes) {
            match it.overflow {
                // Other subscriptions may have all the room, so that it would not help.
                Overflow::DropOldest if is_over(self.bytes) && is_over(self.bytes - it.cost()) => {}
                Overflow::DropOldest => {
                    while is_full(it, self.bytes)
                        && let Some(dropped) = it.queue.drop_oldest()
                    {
                        self.order.remove(&dropped.place);
                        self.bytes -= self::cost(&dropped.value);
                        Counts::add(&it.counts[it.event as usize].lost, 1);
                    }
                    if let Some(first) = it.queue.front() {
                        self.order.insert(first.place, subscription);
                    }
                }
                Overflow::DropNewest => {}
                Overflow::Disconnect if it.queue.is_full() => return Err(Overflowed::Queue(it.bound as u64)),
                Overflow::Disconnect => return Err(Overflowed::Bytes),
            }
            if is_full(it, self.bytes) {
                return it.lose(1);
            }
        }
        if it.queue.is_empty() {
            self.order.insert(self.next, subscription);
        }
        it.queue.push(Waiting { place: self.next, value: value.clone() });
        self.next += 1;
        self.bytes += cost;
        Ok(())
    }

    /// There were so many events, of its kind or for it alone, and no more of them will come to a subscription.
    pub(crate) fn catch_up(&mut self, subscription: u32, all: Option<u64>, own: Option<u64>) -> Result<(), Overflowed> {
        let Some(it) = self.subscriptions.get_mut(&subscription) else { return Ok(()) };
        let mut missed = 0;
        for (expected, count) in [(&mut it.expected.0, all), (&mut it.expected.1, own)] {
            let count = count.unwrap_or(*expected);
            missed += count.saturating_sub(*expected);
            *expected = count.max(*expected);
        }
        it.lose(missed)
    }

    /// Takes out events in the order in which they came, until they have so many bytes or more.
    pub(crate) fn take(&mut self, bytes: usize) -> Pieces {
        let mut pieces = Pieces::default();
        while pieces.len() < bytes
            && let Some((_, subscription)) = self.order.pop_first()
        {
            let Some(it) = self.subscriptions.get_mut(&subscription) else { continue };
            if it.ended.load(Ordering::Acquire) {
                // Its end is on its way here; the client may have been told already.
                self.end(subscription);
                continue;
            }
            let Some((Waiting { value, .. }, lost)) = it.queue.pop() else { continue };
            it.frame.put(&value, lost, &mut pieces);
            Counts::add(&it.counts[it.event as usize].delivered, 1);
            self.bytes -= cost(&value);
            if let Some(first) = it.queue.front() {
                self.order.insert(first.place, subscription);
            }
        }
        pieces
    }

    /// What waits, in events and in bytes.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> (usize, u64) {
        (self.subscriptions.values().map(|it| it.queue.len()).sum(), self.bytes)
    }
}

impl Subscribed {
    /// What its events that wait cost.
    fn cost(&self) -> u64 {
        self.queue.iter().map(|it| cost(&it.value)).sum()
    }

    /// So many events were dropped on their way here.
    fn lose(&mut self, events: u64) -> Result<(), Overflowed> {
        if events == 0 {
            return Ok(());
        }
        if self.overflow == Overflow::Disconnect {
            return Err(Overflowed::Way);
        }
        self.queue.skip(events);
        Counts::add(&self.counts[self.event as usize].lost, events);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use postroom_protocol::{HEADER_LEN, Header, codec, event};
    use proptest::prelude::*;

    use super::*;
    use crate::events::Kind;
    use crate::job::ClientKey;
    use crate::program::Codec;

    fn outlet(subscriptions: &[(u32, Overflow, usize)]) -> Outlet {
        let counts: Arc<[Counts]> = std::iter::repeat_with(Counts::default).take(1).collect();
        let described = Described {
            name: "a.b".to_owned(),
            program: 1,
            version: 1,
            number: 1,
            value: Kind::of::<u64>(),
            codec: Codec::MessagePack,
        };
        let mut outlet = Outlet::default();
        for &(subscription, overflow, queue) in subscriptions {
            let begin = Begin {
                client: ClientKey { slot: 0, generation: 0 },
                subscription,
                event: 0,
                from: 0,
                overflow,
                queue,
                serial: subscription,
                ended: Arc::default(),
                counts: counts.clone(),
            };
            outlet.begin(begin, &described, Format::Packets);
        }
        outlet
    }

    fn value(number: u64) -> Bytes {
        let mut encoded = Vec::new();
        codec::encode(&number, &mut encoded).unwrap();
        encoded.into()
    }

    /// Subscription, value and what was lost of each event.
    fn delivered(outlet: &mut Outlet, bytes: usize) -> Vec<(u32, u64, u64)> {
        let all: Vec<u8> = outlet.take(bytes).into_bytes().flatten().collect();
        let (mut rest, mut events) = (&all[..], Vec::new());
        while let Some(head) = rest.first_chunk() {
            let (length, header) = Header::decode(head);
            let payload: event::Payload<u64> = codec::decode(&rest[HEADER_LEN..length as usize]).unwrap();
            events.push((header.serial, payload.value, payload.lost));
            rest = &rest[length as usize..];
        }
        events
    }

    #[test]
    fn events_leave_in_the_order_in_which_they_came_whichever_subscription_they_are_of() {
        let mut outlet = outlet(&[(1, Overflow::DropOldest, 8), (2, Overflow::DropNewest, 8)]);
        for number in 0..4 {
            for subscription in [2, 1] {
                outlet.offer(subscription, To::All(number), &value(number), 1000).unwrap();
            }
        }
        let events: Vec<(u32, u64)> =
            delivered(&mut outlet, 10_000).into_iter().map(|(it, value, _)| (it, value)).collect();
        assert_eq!(events, [(2, 0), (1, 0), (2, 1), (1, 1), (2, 2), (1, 2), (2, 3), (1, 3)]);
        assert_eq!(outlet.waiting(), (0, 0));
    }

    #[test]
    fn no_more_is_taken_than_there_is_room_for_but_for_the_last() {
        let mut outlet = outlet(&[(1, Overflow::DropOldest, 8)]);
        (0..4).for_each(|number| outlet.offer(1, To::All(number), &value(number), 1000).unwrap());
        assert_eq!(delivered(&mut outlet, 1).len(), 1);
        assert_eq!(delivered(&mut outlet, 37).len(), 2);
        assert!(outlet.has_events());
    }

    #[test]
    fn a_subscription_that_has_ended_delivers_nothing_and_the_others_go_on() {
        let mut outlet = outlet(&[(1, Overflow::DropOldest, 8), (2, Overflow::DropOldest, 8)]);
        for subscription in [1, 2] {
            (0..3).for_each(|number| outlet.offer(subscription, To::All(number), &value(number), 1000).unwrap());
        }
        outlet.subscriptions[&1].ended.store(true, Ordering::Release);
        assert_eq!(delivered(&mut outlet, 10_000), [(2, 0, 0), (2, 1, 0), (2, 2, 0)]);
        outlet.end(1);
        outlet.end(2);
        assert!(outlet.is_empty());
        assert_eq!(outlet.waiting(), (0, 0));
    }

    #[test]
    fn who_wants_no_gap_is_told_the_limit() {
        let mut queue = outlet(&[(1, Overflow::Disconnect, 1)]);
        queue.offer(1, To::All(0), &value(0), 1000).unwrap();
        assert_eq!(queue.offer(1, To::All(1), &value(1), 1000), Err(Overflowed::Queue(1)));
        let mut bytes = outlet(&[(1, Overflow::Disconnect, 9)]);
        bytes.offer(1, To::All(0), &value(0), 10).unwrap();
        assert_eq!(bytes.offer(1, To::All(1), &value(1), 10), Err(Overflowed::Bytes));
        let mut way = outlet(&[(1, Overflow::Disconnect, 9)]);
        assert!(way.offer(1, To::All(3), &value(3), 1000).is_err());
        assert!(outlet(&[(1, Overflow::Disconnect, 9)]).catch_up(1, Some(2), None).is_err());
    }

    proptest! {
        #[test]
        fn of_each_subscription_every_event_is_delivered_in_order_or_lost_whatever_bound_it_meets(
            bounds in prop::collection::vec((any::<bool>(), 1..5usize), 1..4),
            most in 20..400u64,
            steps in prop::collection::vec((0..6u8, 0..4usize), 0..200),
        ) {
            let policy = |oldest| if oldest { Overflow::DropOldest } else { Overflow::DropNewest };
            let subscriptions: Vec<(u32, Overflow, usize)> =
                (1..).zip(&bounds).map(|(it, &(oldest, bound))| (it, policy(oldest), bound)).collect();
            let mut outlet = outlet(&subscriptions);
            let mut published = 0;
            // Of each subscription: the next value that may come.
            let mut due = vec![0; subscriptions.len() + 1];
            let mut check = |events: Vec<(u32, u64, u64)>| {
                for (subscription, value, lost) in events {
                    let due = &mut due[subscription as usize];
                    prop_assert_eq!(value, *due + lost);
                    *due = value + 1;
                }
                Ok(())
            };
            for (step, count) in steps {
                match step {
                    // Some are dropped on their way.
                    0 => published += count as u64,
                    1 | 2 => check(delivered(&mut outlet, count * 50))?,
                    _ => {
                        for &(subscription, ..) in &subscriptions {
                            outlet.offer(subscription, To::All(published), &value(published), most).unwrap();
                        }
                        published += 1;
                    }
                }
                let (_, bytes) = outlet.waiting();
                let largest = cost(&value(u64::MAX));
                prop_assert!(bytes <= most.max(largest), "{} bytes wait", bytes);
            }
            check(delivered(&mut outlet, usize::MAX))?;
            for &(subscription, ..) in &subscriptions {
                outlet.offer(subscription, To::All(published), &value(published), u64::MAX).unwrap();
            }
            check(delivered(&mut outlet, usize::MAX))?;
            prop_assert!(due[1..].iter().all(|due| *due == published + 1));
        }
    }
}
