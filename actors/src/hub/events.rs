//! Events at a hub: from its inlet to the queues of its clients, and from those to their outputs.
//!
//! Both are done in portions, one for each turn of the arbiter's loop, so that readers, replies and pings get theirs
//! however many events there are. Nothing more is taken from the inlet while clients wait for their portion: so what
//! comes faster than it can be written is dropped at the inlet's bound, and what one client does not read at the bound
//! of its own queue.
//!
//! Queues: clients that have something to be written, each once; bounded by `max_clients`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::events::inlet::{Item, Next, Overrun, Published, To};
use crate::events::{Bulletin, ClientState};
use crate::hub::core::HubCore;
use crate::job::ClientKey;
use crate::peer::Peer;
use crate::reader::Connection;
use crate::time::Instant;

/// So many events are put into queues in one turn, one for each subscription, and one event at least.
const TAKEN: usize = 64;

/// So many clients have their events written in one turn.
const WRITTEN: usize = 16;

/// The subscriptions of a hub's clients.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// By event, and there by number.
    by_event: RefCell<Vec<BTreeMap<u32, ClientKey>>>,
    /// The clients that have events and may have room for them.
    listed: RefCell<VecDeque<ClientKey>>,
    /// Whether there may be something in the inlet.
    told: Cell<bool>,
    /// Whether a portion is being passed on, after which the turn comes back by itself.
    is_passing: Cell<bool>,
}

impl Subscriptions {
    /// Calls `body` with each subscription of an event. Returns how many there are.
    fn for_each(&self, event: u32, mut body: impl FnMut(u32, ClientKey)) -> usize {
        let by_event = self.by_event.borrow();
        let Some(subscriptions) = by_event.get(event as usize) else { return 0 };
        subscriptions.iter().for_each(|(&subscription, &client)| body(subscription, client));
        subscriptions.len()
    }

    fn insert(&self, event: u32, subscription: u32, client: ClientKey) {
        let mut by_event = self.by_event.borrow_mut();
        if by_event.len() <= event as usize {
            by_event.resize_with(event as usize + 1, BTreeMap::new);
        }
        by_event[event as usize].insert(subscription, client);
    }

    fn remove(&self, event: u32, subscription: u32) {
        if let Some(subscriptions) = self.by_event.borrow_mut().get_mut(event as usize) {
            subscriptions.remove(&subscription);
        }
    }

    fn client(&self, event: u32, subscription: u32) -> Option<ClientKey> {
        self.by_event.borrow().get(event as usize)?.get(&subscription).copied()
    }

    /// A client is to have its events written, in this turn or one of the next. True if nobody else has the turn come
    /// back for that.
    pub(super) fn list(&self, client: ClientKey) -> bool {
        let mut listed = self.listed.borrow_mut();
        listed.push_back(client);
        listed.len() == 1 && !self.is_passing.get()
    }

    fn is_done(&self) -> bool {
        !self.told.get() && self.listed.borrow().is_empty()
    }
}

impl HubCore {
    /// There is something in the inlet.
    pub(super) fn events_came(&self) {
        self.subscriptions().told.set(true);
        self.wake_turn();
    }

    /// A portion of events. Returns whether there is more.
    pub(super) fn pass_events(self: &Rc<Self>) -> bool {
        let subscriptions = self.subscriptions();
        if subscriptions.is_done() {
            return false;
        }
        subscriptions.is_passing.set(true);
        if subscriptions.told.get() && subscriptions.listed.borrow().is_empty() {
            let mut left = TAKEN;
            while left > 0 {
                match self.take_event() {
                    Some(events) => left = left.saturating_sub(events),
                    None => {
                        subscriptions.told.set(false);
                        break;
                    }
                }
            }
        }
        let now = Instant::now();
        for _ in 0..WRITTEN {
            let Some(client) = subscriptions.listed.borrow_mut().pop_front() else { break };
            self.write_events(client, now);
        }
        subscriptions.is_passing.set(false);
        !subscriptions.is_done()
    }

    /// All events that were published before the service began to stop, as far as the clients have room for them.
    pub(super) fn pass_last_events(self: &Rc<Self>) {
        // Publishers do not stop for this.
        for _ in 0..self.limits().max_published_events {
            if self.take_event().is_none() {
                break;
            }
        }
        let now = Instant::now();
        let mut listed = std::mem::take(&mut *self.subscriptions().listed.borrow_mut());
        while let Some(client) = listed.pop_front() {
            self.write_events(client, now);
        }
    }

    fn write_events(self: &Rc<Self>, client: ClientKey, now: Instant) {
        self.with_client(client, now, |connection| connection.is_listed = false);
    }

    /// Takes one item out of the inlet: how many queues it has touched, one at least. Nothing when the inlet is empty.
    fn take_event(&self) -> Option<usize> {
        let bulletin = self.bulletin()?;
        match bulletin.inlet(self.number()).next() {
            Next::Item(Item::Event(event)) => Some(self.fan_out(&event)),
            Next::Item(Item::Begin(begin)) => {
                let (client, event, subscription) = (begin.client, begin.event, begin.subscription);
                let described = bulletin.event(event);
                let begun = self.connection(client).is_some_and(|connection| {
                    let mut connection = connection.borrow_mut();
                    let peer = *connection.client.peer();
                    log::debug!(client = peer.client_id(); "subscription {subscription} to {} begins", described.name);
                    connection.client.subscribed(begin, described)
                });
                if begun {
                    self.subscriptions().insert(event, subscription, client);
                } else {
                    bulletin.end(self.number(), subscription);
                }
                Some(1)
            }
            Next::Item(Item::End { client, event, subscription }) => {
                self.subscriptions().remove(event, subscription);
                if let Some(connection) = self.connection(client) {
                    let mut connection = connection.borrow_mut();
                    let name = &bulletin.event(event).name;
                    log::debug!(
                        client = connection.client.peer().client_id();
                        "subscription {subscription} to {name} ends"
                    );
                    connection.client.unsubscribed(subscription, Instant::now());
                    // It may be idle from now on.
                    connection.list(client, self, true);
                }
                Some(1)
            }
            Next::Nothing(overrun) => {
                if let Some(overrun) = overrun {
                    self.catch_up(bulletin, &overrun);
                }
                None
            }
        }
    }

    fn fan_out(&self, published: &Published) -> usize {
        let Published { event, to, ref value } = *published;
        match to {
            To::All(_) => {
                let offer = |subscription, client| {
                    self.offer(client, |connection| connection.client.offer_event(subscription, to, value));
                };
                self.subscriptions().for_each(event, offer).max(1)
            }
            To::One(subscription, _) => {
                if let Some(client) = self.subscriptions().client(event, subscription) {
                    self.offer(client, |connection| connection.client.offer_event(subscription, to, value));
                }
                1
            }
        }
    }

    /// Subscriptions learn of events that were dropped in the inlet and behind which none came. That matters to those
    /// who want no gap; to the others it would be told by the next event.
    fn catch_up(&self, bulletin: &Bulletin, overrun: &Overrun) {
        log::debug!("hub {} did not keep up with what was published; events were dropped", self.number());
        for event in 0..bulletin.len() as u32 {
            let all = Some(overrun.published[event as usize]);
            self.subscriptions().for_each(event, |subscription, client| {
                self.offer(client, |connection| connection.client.catch_up_events(subscription, all, None));
            });
        }
        for &(client, subscription, own) in &overrun.own {
            self.offer(client, |connection| connection.client.catch_up_events(subscription, None, Some(own)));
        }
    }

    /// Puts something into the queues of a client, and lists it for the output.
    fn offer(&self, client: ClientKey, body: impl FnOnce(&mut Connection) -> bool) {
        if let Some(connection) = self.connection(client) {
            let mut connection = connection.borrow_mut();
            let follows = body(&mut connection);
            connection.list(client, self, follows);
        }
    }

    /// A client has come.
    pub(super) fn client_came(&self, peer: &Peer) {
        self.client_changed(peer, ClientState::Connected);
    }

    /// A client has left: its subscriptions end.
    pub(super) fn client_left(&self, client: ClientKey, peer: Option<Peer>) {
        let Some(bulletin) = self.bulletin() else { return };
        for (subscription, event) in bulletin.forget(self.number(), client) {
            self.subscriptions().remove(event, subscription);
        }
        if let Some(peer) = peer {
            self.client_changed(&peer, ClientState::Left);
        }
    }

    fn client_changed(&self, peer: &Peer, state: ClientState) {
        if let Some(clients) = self.bulletin().and_then(Bulletin::clients) {
            clients.tell(peer, state);
        }
    }
}
