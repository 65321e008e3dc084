//! The events that have come and were not taken yet, one inbox for each subscription of this client.
//!
//! The connection puts events in, the handles of the subscriptions take them out. A program that does not take its
//! events holds up nothing: an inbox takes as many as were asked for, and drops what is too much in the same way as the
//! service does, so that each event is taken or counted as lost, exactly once.
//!
//! Bound: the queue that each subscription asked for, in events of at most `max_reply` bytes each.

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;

use postroom_protocol::event::{self, Overflow};
use postroom_protocol::{Error, codec};
use serde::de::IgnoredAny;

use crate::error::CloseReason;

/// The inboxes of one client.
#[derive(Debug, Default)]
pub(super) struct Inboxes {
    inboxes: BTreeMap<u64, Inbox>,
    /// Whose events have which serial, on the present connection.
    serials: BTreeMap<u32, u64>,
    next: u64,
}

#[derive(Debug)]
struct Inbox {
    serial: Option<u32>,
    events: VecDeque<Incoming>,
    bound: usize,
    overflow: Overflow,
    /// How many were dropped here since the last that was put in.
    lost: u64,
    end: Option<End>,
    waker: Option<Waker>,
}

/// An event that has come.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) payload: Vec<u8>,
    /// How many were dropped here before it.
    pub(crate) lost: u64,
}

/// Why no more events come.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// The connection is lost.
    Closed(CloseReason),
    /// An event had no room, and there is to be no gap.
    Overflowed(Error),
    /// That was told already.
    Told,
}

impl Inboxes {
    /// A new inbox, for a subscription that is about to be asked for. Returns its key.
    pub(super) fn open(&mut self, bound: usize, overflow: Overflow) -> u64 {
        self.next += 1;
        let events = VecDeque::new();
        let inbox = Inbox { serial: None, events, bound: bound.max(1), overflow, lost: 0, end: None, waker: None };
        self.inboxes.insert(self.next, inbox);
        self.next
    }

    /// The service has opened the subscription. False if nobody wants it any more.
    pub(super) fn begin(&mut self, key: u64, serial: u32) -> bool {
        let Some(inbox) = self.inboxes.get_mut(&key) else { return false };
        inbox.serial = Some(serial);
        self.serials.insert(serial, key);
        true
    }

    /// The handle is gone. The serial that the service is to forget, if there is one.
    pub(super) fn close(&mut self, key: u64) -> Option<u32> {
        let serial = self.inboxes.remove(&key)?.serial?;
        self.serials.remove(&serial);
        Some(serial)
    }

    /// An event has come. Whether it is one of a subscription, and who is to be woken.
    pub(super) fn put(&mut self, serial: u32, payload: impl FnOnce() -> Vec<u8>) -> (bool, Option<Waker>) {
        let inbox = self.serials.get(&serial).and_then(|key| self.inboxes.get_mut(key));
        let Some(inbox) = inbox else { return (false, None) };
        if inbox.end.is_none() {
            inbox.put(payload());
        }
        (true, inbox.waker.take())
    }

    /// The connection is lost, and with it every subscription that was open on it.
    pub(super) fn lost(&mut self, reason: &CloseReason, wakers: &mut Vec<Waker>) {
        self.serials.clear();
        for inbox in self.inboxes.values_mut() {
            if inbox.serial.take().is_some() {
                inbox.end.get_or_insert_with(|| End::Closed(reason.clone()));
                wakers.extend(inbox.waker.take());
            }
        }
    }

    /// The next event of an inbox, or why there will be none; else `waker` is kept for when there is. The second value
    /// is to be dropped after the lock is released.
    pub(super) fn take(&mut self, key: u64, waker: &Waker) -> (Option<Result<Incoming, End>>, Option<Waker>) {
        let Some(inbox) = self.inboxes.get_mut(&key) else { return (Some(Err(End::Told)), None) };
        if let Some(event) = inbox.events.pop_front() {
            if inbox.events.is_empty() && inbox.events.capacity() > KEPT {
                inbox.events = VecDeque::new();
            }
            return (Some(Ok(event)), None);
        }
        if let Some(end) = &mut inbox.end {
            return (Some(Err(std::mem::replace(end, End::Told))), None);
        }
        match &inbox.waker {
            Some(old) if old.will_wake(waker) => (None, None),
            _ => (None, inbox.waker.replace(waker.clone())),
        }
    }
}

/// The room of a burst is given back when it is over; so much is kept.
const KEPT: usize = 16;

impl Inbox {
    fn put(&mut self, payload: Vec<u8>) {
        if self.events.len() >= self.bound {
            match self.overflow {
                Overflow::DropOldest => {
                    if let Some(dropped) = self.events.pop_front() {
                        let lost = dropped.lost + lost_before(&dropped.payload) + 1;
                        match self.events.front_mut() {
                            Some(next) => next.lost += lost,
                            None => self.lost += lost,
                        }
                    }
                }
                Overflow::DropNewest => {
                    self.lost += lost_before(&payload) + 1;
                    return;
                }
                Overflow::Disconnect => {
                    let text = format!("{} events wait to be taken, as queue allows", self.bound);
                    let error = Error::new(postroom_protocol::Code::OVERLOADED, text);
                    self.end = Some(End::Overflowed(error.with_limit("queue", self.bound as u64)));
                    return;
                }
            }
        }
        self.events.push_back(Incoming { payload, lost: std::mem::take(&mut self.lost) });
    }
}

/// What the service says was lost before an event.
fn lost_before(payload: &[u8]) -> u64 {
    codec::decode::<event::Payload<IgnoredAny>>(payload).map_or(0, |payload| payload.lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(value: u64, lost: u64) -> Vec<u8> {
        let mut payload = Vec::new();
        event::put_head(lost, &mut payload);
        codec::encode(&value, &mut payload).unwrap();
        payload
    }

    fn take(inboxes: &mut Inboxes, key: u64) -> Option<(u64, u64)> {
        let event = inboxes.take(key, Waker::noop()).0?.ok()?;
        let payload: event::Payload<u64> = codec::decode(&event.payload).unwrap();
        Some((payload.value, payload.lost + event.lost))
    }

    #[test]
    fn what_is_dropped_here_adds_to_what_the_service_has_dropped() {
        for (overflow, expected) in
            [(Overflow::DropOldest, [(4, 4), (5, 0), (9, 3)]), (Overflow::DropNewest, [(1, 1), (2, 0), (9, 6)])]
        {
            let mut inboxes = Inboxes::default();
            let key = inboxes.open(2, overflow);
            assert!(inboxes.begin(key, 70));
            // One was lost before the first and one before the fourth.
            for (value, lost) in [(1, 1), (2, 0), (4, 1), (5, 0)] {
                assert!(inboxes.put(70, || payload(value, lost)).0);
            }
            let mut came = [take(&mut inboxes, key).unwrap(), take(&mut inboxes, key).unwrap(), (0, 0)];
            assert!(inboxes.put(70, || payload(9, 3)).0);
            came[2] = take(&mut inboxes, key).unwrap();
            assert_eq!(came, expected, "{overflow}");
            assert_eq!(take(&mut inboxes, key), None);
        }
    }

    #[test]
    fn without_gaps_the_events_before_the_first_that_had_no_room_are_the_last() {
        let mut inboxes = Inboxes::default();
        let key = inboxes.open(1, Overflow::Disconnect);
        inboxes.begin(key, 70);
        (1..4).for_each(|value| assert!(inboxes.put(70, || payload(value, 0)).0));
        assert_eq!(take(&mut inboxes, key), Some((1, 0)));
        assert!(matches!(inboxes.take(key, Waker::noop()).0, Some(Err(End::Overflowed(_)))));
        assert!(matches!(inboxes.take(key, Waker::noop()).0, Some(Err(End::Told))));
    }

    #[test]
    fn events_of_a_subscription_that_nobody_has_any_more_are_nobodys() {
        let mut inboxes = Inboxes::default();
        let key = inboxes.open(1, Overflow::DropOldest);
        assert!(!inboxes.put(70, || payload(1, 0)).0);
        assert_eq!(inboxes.close(key), None);
        assert!(!inboxes.begin(key, 70), "its handle has gone before the service answered");
        let key = inboxes.open(1, Overflow::DropOldest);
        inboxes.begin(key, 71);
        assert_eq!(inboxes.close(key), Some(71));
        assert!(!inboxes.put(71, || payload(1, 0)).0);
    }
}
