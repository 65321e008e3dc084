//! The inlet of one hub: published events on their way to its clients, and the subscriptions that these have.
//!
//! Publishers and handlers write to it from any thread, its hub takes from it; both hold its lock for a few
//! instructions only, never while anything is encoded, written or waited for.
//!
//! Bound: `max_published_events` and `max_published_bytes` for events; one that comes when it is full is dropped. Each
//! event has a number, so that the hub sees how many it did not get, and tells the subscriptions. Beside them one item
//! for each subscription that was made or ended since the hub looked last, which are bounded by the calls in progress
//! that do it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use actix::Addr;
use bytes::Bytes;
use postroom_protocol::Error;

use crate::events::Overflow;
use crate::hub::{Hub, TakeEvents};
use crate::job::ClientKey;

/// The events on their way to one hub.
#[derive(Debug)]
pub(crate) struct Inlet {
    state: Mutex<State>,
    bounds: Bounds,
    /// The hub, once it is there.
    address: OnceLock<Addr<Hub>>,
    /// What the hub counts, by event.
    counts: Arc<[Counts]>,
}

/// The limits that hold here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) events: usize,
    pub(crate) bytes: u64,
    pub(crate) client_subscriptions: usize,
}

/// What became of the events of one kind; only the hub's thread writes.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) delivered: AtomicU64,
    pub(crate) lost: AtomicU64,
}

impl Counts {
    /// Adds to one of them, on the hub's thread.
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct State {
    items: VecDeque<Item>,
    /// How many of them are events, and the bytes of their values.
    events: usize,
    bytes: u64,
    /// How many events of each kind were published to all its subscriptions here, dropped ones included.
    published: Vec<u64>,
    /// Whether an event was dropped since the hub had taken everything.
    overran: bool,
    /// Whether the hub was told that there is something.
    told: bool,
    subscriptions: BTreeMap<u32, Open>,
    by_event: Vec<BTreeSet<u32>>,
    by_client: BTreeMap<ClientKey, BTreeSet<u32>>,
    /// The number of the next subscription.
    next: u32,
}

/// A subscription that is open.
#[derive(Debug)]
struct Open {
    event: u32,
    client: ClientKey,
    /// How many events were published to it alone.
    own: u64,
    ended: Arc<AtomicBool>,
}

/// What the hub takes, in the order in which it came.
#[derive(Debug)]
pub(crate) enum Item {
    /// An event was published.
    Event(Published),
    /// A client has subscribed.
    Begin(Begin),
    /// A client has unsubscribed.
    End { client: ClientKey, event: u32, subscription: u32 },
}

/// A published event.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) event: u32,
    pub(crate) to: To,
    pub(crate) value: Bytes,
}

/// To whom an event goes, with its number among those that go there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To {
    /// To all subscriptions of the event.
    All(u64),
    /// To one.
    One(u32, u64),
}

/// A new subscription.
#[derive(Debug)]
pub(crate) struct Begin {
    pub(crate) client: ClientKey,
    pub(crate) subscription: u32,
    pub(crate) event: u32,
    /// The number of the first event that it gets.
    pub(crate) from: u64,
    pub(crate) overflow: Overflow,
    pub(crate) queue: usize,
    pub(crate) serial: u32,
    /// Set as soon as it ends: nothing of it is delivered then.
    pub(crate) ended: Arc<AtomicBool>,
    pub(crate) counts: Arc<[Counts]>,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) event: u32,
    pub(crate) overflow: Overflow,
    pub(crate) queue: usize,
    pub(crate) serial: Option<u32>,
}

/// What the hub gets when it takes.
#[derive(Debug)]
pub(crate) enum Next {
    Item(Item),
    /// There is nothing more. If events were dropped, how many there were of each kind, and of each subscription of
    /// its own: those who wait for the ones in between wait in vain.
    Nothing(Option<Overrun>),
}

/// How many events there were, dropped ones included.
#[derive(Debug)]
pub(crate) struct Overrun {
    pub(crate) published: Vec<u64>,
    /// Of single subscriptions: their clients, their numbers, and how many.
    pub(crate) own: Vec<(ClientKey, u32, u64)>,
}

impl Inlet {
    /// The inlet of the hub with this number among `hubs`, for so many events.
    pub(crate) fn new(hub: usize, events: usize, bounds: Bounds) -> Self {
        let state = State {
            items: VecDeque::new(),
            events: 0,
            bytes: 0,
            published: vec![0; events],
            overran: false,
            told: false,
            subscriptions: BTreeMap::new(),
            by_event: vec![BTreeSet::new(); events],
            by_client: BTreeMap::new(),
            // The numbers of all hubs together are unique: each takes those that leave its own rest.
            next: hub as u32 + 1,
        };
        let counts = std::iter::repeat_with(Counts::default).take(events).collect();
        Self { state: Mutex::new(state), bounds, address: OnceLock::new(), counts }
    }

    pub(crate) fn started(&self, address: Addr<Hub>) {
        // Set once, by the one hub of this number.
        let _ = self.address.set(address);
    }

    pub(crate) fn counts(&self) -> &[Counts] {
        &self.counts
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No foreign code runs under the lock; what could panic is a lack of memory.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the hub, if it was not told already, that there is something to take.
    fn tell(&self, mut state: MutexGuard<'_, State>) {
        if !std::mem::replace(&mut state.told, true)
            && let Some(address) = self.address.get()
        {
            drop(state);
            address.do_send(TakeEvents);
        }
    }

    /// An event was published to all its subscriptions here; `None` when its value cannot be sent, so that it counts
    /// as lost. False when it was dropped.
    pub(crate) fn publish(&self, event: u32, value: Option<Bytes>) -> bool {
        let mut state = self.lock();
        let number = state.published[event as usize];
        state.published[event as usize] += 1;
        let taken = state.take_in(self.bounds, event, To::All(number), value);
        self.tell(state);
        taken
    }

    /// The same to one subscription, if it is open.
    pub(crate) fn publish_to(&self, subscription: u32, value: Option<Bytes>) -> bool {
        let mut state = self.lock();
        let Some(open) = state.subscriptions.get_mut(&subscription) else { return true };
        let (event, number) = (open.event, open.own);
        open.own += 1;
        let taken = state.take_in(self.bounds, event, To::One(subscription, number), value);
        self.tell(state);
        taken
    }

    /// The open subscriptions of an event.
    pub(crate) fn subscriptions(&self, event: u32) -> Vec<u32> {
        self.lock().by_event[event as usize].iter().copied().collect()
    }

    /// How many of them there are.
    #[cfg(test)]
    fn count(&self, event: u32) -> usize {
        self.lock().by_event[event as usize].len()
    }

    /// A client subscribes. `opened` runs before the hub can know of it.
    pub(crate) fn subscribe(
        &self,
        client: ClientKey,
        wish: Wish,
        hubs: u32,
        opened: impl FnOnce(),
    ) -> Result<u32, Error> {
        let mut state = self.lock();
        let most = self.bounds.client_subscriptions;
        if state.by_client.get(&client).map_or(0, BTreeSet::len) >= most {
            return Err(Error::overloaded("max_client_subscriptions", most as u64, None));
        }
        let subscription = state.number(hubs);
        let Wish { event, overflow, queue, serial } = wish;
        let ended = Arc::new(AtomicBool::new(false));
        let open = Open { event, client, own: 0, ended: ended.clone() };
        state.subscriptions.insert(subscription, open);
        state.by_event[event as usize].insert(subscription);
        state.by_client.entry(client).or_default().insert(subscription);
        let begin = Begin {
            client,
            subscription,
            event,
            from: state.published[event as usize],
            overflow,
            queue,
            serial: serial.unwrap_or(subscription),
            ended,
            counts: self.counts.clone(),
        };
        state.items.push_back(Item::Begin(begin));
        opened();
        self.tell(state);
        Ok(subscription)
    }

    /// A client ends a subscription of its own. The event that it was to, or `None` if it has none such.
    pub(crate) fn unsubscribe(&self, client: ClientKey, subscription: u32) -> Option<u32> {
        let mut state = self.lock();
        if state.subscriptions.get(&subscription)?.client != client {
            return None;
        }
        let event = state.end(subscription)?;
        state.items.push_back(Item::End { client, event, subscription });
        self.tell(state);
        Some(event)
    }

    /// A client has left: its subscriptions end. Which they were, each with its event.
    pub(crate) fn forget(&self, client: ClientKey) -> Vec<(u32, u32)> {
        let mut state = self.lock();
        let Some(subscriptions) = state.by_client.remove(&client) else { return Vec::new() };
        subscriptions.into_iter().filter_map(|it| Some((it, state.end(it)?))).collect()
    }

    /// A subscription whose client has left before the hub came to it ends. The event that it was to, if it was open.
    pub(crate) fn end(&self, subscription: u32) -> Option<u32> {
        self.lock().end(subscription)
    }

    /// The next item for the hub.
    pub(crate) fn next(&self) -> Next {
        let mut state = self.lock();
        match state.items.pop_front() {
            Some(item) => {
                if let Item::Event(published) = &item {
                    state.events -= 1;
                    state.bytes -= published.value.len() as u64;
                }
                Next::Item(item)
            }
            None => {
                state.told = false;
                if state.items.capacity() > KEPT {
                    state.items = VecDeque::new();
                }
                Next::Nothing(std::mem::take(&mut state.overran).then(|| state.overrun()))
            }
        }
    }
}

/// The room of a flood is given back when it is over; so much is kept.
const KEPT: usize = 1024;

/// Numbers of subscriptions stay below this, so that a program whose clients know them as signed can tell them.
const NUMBERS: u32 = 1 << 31;

impl State {
    /// Takes an event in, if there is room for it.
    fn take_in(&mut self, bounds: Bounds, event: u32, to: To, value: Option<Bytes>) -> bool {
        let value = value.filter(|value| {
            self.events < bounds.events && (self.events == 0 || self.bytes + value.len() as u64 <= bounds.bytes)
        });
        let Some(value) = value else {
            self.overran = true;
            return false;
        };
        self.events += 1;
        self.bytes += value.len() as u64;
        self.items.push_back(Item::Event(Published { event, to, value }));
        true
    }

    /// A number that no open subscription has.
    fn number(&mut self, hubs: u32) -> u32 {
        loop {
            let number = self.next;
            // From the top back to the beginning, with the same rest.
            self.next = if number < NUMBERS - hubs { number + hubs } else { (number - 1) % hubs + 1 };
            if !self.subscriptions.contains_key(&number) {
                return number;
            }
        }
    }

    /// Ends a subscription. The event that it was to.
    fn end(&mut self, subscription: u32) -> Option<u32> {
        let Open { event, client, ended, .. } = self.subscriptions.remove(&subscription)?;
        ended.store(true, Ordering::Release);
        self.by_event[event as usize].remove(&subscription);
        if let Some(left) = self.by_client.get_mut(&client) {
            left.remove(&subscription);
            if left.is_empty() {
                self.by_client.remove(&client);
            }
        }
        Some(event)
    }

    fn overrun(&self) -> Overrun {
        let own = self.subscriptions.iter().filter(|(_, open)| open.own > 0);
        let own = own.map(|(&subscription, open)| (open.client, subscription, open.own)).collect();
        Overrun { published: self.published.clone(), own }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: ClientKey = ClientKey { slot: 3, generation: 1 };
    const BOUNDS: Bounds = Bounds { events: 2, bytes: 100, client_subscriptions: 2 };

    fn wish(event: u32) -> Wish {
        Wish { event, overflow: Overflow::DropOldest, queue: 8, serial: None }
    }

    fn subscribe(inlet: &Inlet, event: u32) -> Result<u32, Error> {
        inlet.subscribe(CLIENT, wish(event), 4, || {})
    }

    fn value(bytes: usize) -> Option<Bytes> {
        Some(Bytes::from(vec![0; bytes]))
    }

    /// The numbers of the events that the hub gets, and how many there were of event 0 if it did not get all.
    fn take(inlet: &Inlet) -> (Vec<u64>, Option<u64>) {
        let mut numbers = Vec::new();
        loop {
            match inlet.next() {
                Next::Item(Item::Event(Published { to: To::All(number) | To::One(_, number), .. })) => {
                    numbers.push(number);
                }
                Next::Item(_) => {}
                Next::Nothing(overrun) => return (numbers, overrun.map(|overrun| overrun.published[0])),
            }
        }
    }

    #[test]
    fn an_event_that_comes_when_it_is_full_is_dropped_and_its_number_with_it() {
        let inlet = Inlet::new(0, 1, BOUNDS);
        subscribe(&inlet, 0).unwrap();
        assert!(inlet.publish(0, value(1)) && inlet.publish(0, value(1)) && !inlet.publish(0, value(1)));
        assert_eq!(take(&inlet), (vec![0, 1], Some(3)));
        // What was taken made room, and what was told is not told again.
        assert!(inlet.publish(0, value(1)));
        assert_eq!(take(&inlet), (vec![3], None));
    }

    #[test]
    fn bytes_are_bounded_too_and_one_event_of_any_size_passes() {
        let inlet = Inlet::new(0, 1, BOUNDS);
        assert!(inlet.publish(0, value(1000)));
        assert!(!inlet.publish(0, value(1)));
        assert_eq!(take(&inlet), (vec![0], Some(2)));
        assert!(inlet.publish(0, value(60)) && !inlet.publish(0, value(60)));
    }

    #[test]
    fn a_value_that_cannot_be_sent_counts_as_lost() {
        let inlet = Inlet::new(0, 1, BOUNDS);
        assert!(!inlet.publish(0, None));
        assert_eq!(take(&inlet), (vec![], Some(1)));
    }

    #[test]
    fn a_client_has_as_many_subscriptions_as_it_may_and_ends_only_its_own() {
        let inlet = Inlet::new(1, 2, BOUNDS);
        let first = subscribe(&inlet, 0).unwrap();
        subscribe(&inlet, 1).unwrap();
        let error = subscribe(&inlet, 1).unwrap_err();
        assert_eq!(error.limit(), Some(("max_client_subscriptions", 2)));
        assert_eq!(inlet.unsubscribe(ClientKey { slot: 0, generation: 0 }, first), None);
        assert_eq!(inlet.unsubscribe(CLIENT, first), Some(0));
        assert_eq!(inlet.unsubscribe(CLIENT, first), None);
        let third = subscribe(&inlet, 1).unwrap();
        assert_eq!(inlet.forget(CLIENT).len(), 2);
        assert_eq!((inlet.count(0), inlet.count(1)), (0, 0));
        assert!(inlet.publish_to(third, value(1)), "nobody is there to lose it");
        assert_eq!(take(&inlet).0, Vec::<u64>::new());
    }

    #[test]
    fn numbers_are_unique_among_hubs_and_start_again_at_the_top() {
        let inlet = Inlet::new(3, 1, Bounds { client_subscriptions: 100, ..BOUNDS });
        let first = subscribe(&inlet, 0).unwrap();
        assert_eq!((first, subscribe(&inlet, 0).unwrap()), (4, 8));
        inlet.lock().next = NUMBERS - 4;
        assert_eq!(subscribe(&inlet, 0).unwrap(), NUMBERS - 4);
        // 4 and 8 are taken.
        assert_eq!(subscribe(&inlet, 0).unwrap(), 12);
    }
}
