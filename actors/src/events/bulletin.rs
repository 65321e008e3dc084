//! All events of a service: who subscribed to what, and the way to each hub.
//!
//! Made when the service starts, shared by hubs, handlers and publishers. Nothing here waits or encodes for a client;
//! what is queued lies in the [`Inlet`]s, which bound it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;
use postroom_protocol::{Code, Error};

use crate::events::inlet::{Bounds, Inlet, Wish};
use crate::events::publisher::{Place, Publisher};
use crate::events::{ClientEvents, Kind, SubscribeOptions, Subscription};
use crate::job::ClientKey;
use crate::limits::Limits;
use crate::program::Codec;
use crate::stats;

/// So many events wait for a client that does not say how many are to.
const DEFAULT_QUEUE: u32 = 256;

/// An event of a service.
#[derive(Debug)]
pub(crate) struct Described {
    /// `program.event`.
    pub(crate) name: String,
    pub(crate) program: u32,
    pub(crate) version: u32,
    pub(crate) number: i32,
    pub(crate) value: Kind,
    pub(crate) codec: Codec,
}

/// What publishers look at before anything else: what there is, and whether anybody wants it.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) events: Box<[Arc<Described>]>,
    /// How many subscriptions each event has.
    open: Box<[AtomicU32]>,
}

impl Board {
    /// Whether anybody subscribed to an event.
    pub(crate) fn is_wanted(&self, event: u32) -> bool {
        self.open[event as usize].load(Ordering::Acquire) > 0
    }
}

/// A program, by its publisher, with where its events are on the board.
pub(crate) type ProgramEvents = (Arc<Place>, Range<u32>);

/// The events of a service.
#[derive(Debug)]
pub(crate) struct Bulletin {
    board: Arc<Board>,
    /// How many subscriptions each event has at each hub: by event, then by hub.
    here: Box<[AtomicU32]>,
    /// How often each event was published while anybody wanted it.
    published: Box<[AtomicU64]>,
    inlets: Box<[Inlet]>,
    programs: HashMap<(u32, u32), ProgramEvents>,
    max_queue: u32,
    max_packet: u32,
    /// What was refused for `max_client_subscriptions` and for `max_event_queue`.
    refused: [AtomicU64; 2],
    /// Who tells of the clients that come and go.
    clients: Option<ClientEvents>,
}

impl Bulletin {
    /// The events of these programs, for so many hubs; their publishers work from now on.
    pub(crate) fn new(
        events: Vec<Arc<Described>>,
        programs: Vec<ProgramEvents>,
        hubs: usize,
        limits: &Limits,
        clients: Option<ClientEvents>,
    ) -> Arc<Self> {
        let count = events.len();
        let open = std::iter::repeat_with(AtomicU32::default).take(count).collect();
        let board = Arc::new(Board { events: events.into(), open });
        let bounds = Bounds {
            events: limits.max_published_events,
            bytes: limits.max_published_bytes,
            client_subscriptions: limits.max_client_subscriptions,
        };
        let index = |(place, range): &ProgramEvents| ((place.number, place.version), (place.clone(), range.clone()));
        let bulletin = Arc::new(Self {
            here: std::iter::repeat_with(AtomicU32::default).take(count * hubs).collect(),
            published: std::iter::repeat_with(AtomicU64::default).take(count).collect(),
            inlets: (0..hubs).map(|hub| Inlet::new(hub, count, bounds)).collect(),
            programs: programs.iter().map(index).collect(),
            max_queue: limits.max_event_queue,
            max_packet: limits.max_packet,
            refused: Default::default(),
            clients,
            board,
        });
        for (place, range) in programs {
            place.bind(&bulletin.board, range, &bulletin);
        }
        bulletin
    }

    pub(crate) fn inlet(&self, hub: u16) -> &Inlet {
        &self.inlets[usize::from(hub)]
    }

    pub(crate) fn event(&self, event: u32) -> &Arc<Described> {
        &self.board.events[event as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.board.events.len()
    }

    /// Who tells of the clients that come and go, if anybody does.
    pub(crate) fn clients(&self) -> Option<&ClientEvents> {
        self.clients.as_ref()
    }

    /// The publisher of a program.
    pub(crate) fn publisher(&self, program: u32, version: u32) -> Option<Publisher> {
        self.programs.get(&(program, version)).map(|(place, _)| Publisher::of(place.clone()))
    }

    /// The longest packet that is sent.
    pub(crate) fn max_packet(&self) -> u32 {
        self.max_packet
    }

    /// An event was published to all its subscriptions; without a value when that cannot be sent.
    pub(crate) fn publish(&self, event: u32, value: Option<Bytes>) {
        self.published[event as usize].fetch_add(1, Ordering::Relaxed);
        for (hub, inlet) in self.inlets.iter().enumerate() {
            if self.here(event, hub).load(Ordering::Acquire) > 0 && !inlet.publish(event, value.clone()) {
                log::trace!("hub {hub} has no room for an event of {}", self.event(event).name);
            }
        }
    }

    /// An event is published with a value for each subscription that `value` has one for.
    pub(crate) fn publish_each(&self, event: u32, mut value: impl FnMut(Subscription) -> Option<Option<Bytes>>) {
        for inlet in &self.inlets {
            // Asked without any lock: `value` is the program's own.
            for subscription in inlet.subscriptions(event) {
                if let Some(value) = value(Subscription::from_number(subscription)) {
                    self.published[event as usize].fetch_add(1, Ordering::Relaxed);
                    inlet.publish_to(subscription, value);
                }
            }
        }
    }

    /// A client subscribes to an event of a program by its number.
    pub(crate) fn subscribe(
        &self,
        (hub, client): (u16, ClientKey),
        (program, version, number): (u32, u32, i32),
        options: SubscribeOptions,
    ) -> Result<Subscription, Error> {
        let events = self.programs.get(&(program, version)).map_or(0..0, |(_, range)| range.clone());
        match events.clone().find(|&event| self.event(event).number == number) {
            Some(event) => self.open(hub, client, event, options),
            None => Err(Error::invalid_arguments(format!("the program has not declared event {number}"))),
        }
    }

    /// A client subscribes to an event by the names of the program, or `program/version`, and of the event.
    pub(crate) fn subscribe_by_name(
        &self,
        (hub, client): (u16, ClientKey),
        (program, event): (&str, &str),
        options: SubscribeOptions,
    ) -> Result<Subscription, Error> {
        let event = self.find(program, event)?;
        match self.event(event).codec {
            Codec::MessagePack => self.open(hub, client, event, options),
            // Who subscribes like this reads values that tell what they are.
            codec => Err(Error::unsupported(format!(
                "the events of program {program} are {codec}; its clients subscribe by procedures of its own"
            ))),
        }
    }

    fn open(&self, hub: u16, client: ClientKey, event: u32, options: SubscribeOptions) -> Result<Subscription, Error> {
        let SubscribeOptions { overflow, queue, serial } = options;
        let queue = queue.unwrap_or(DEFAULT_QUEUE.min(self.max_queue));
        if !(1..=self.max_queue).contains(&queue) {
            self.refused[1].fetch_add(1, Ordering::Relaxed);
            let text = format!("queue is {queue}; allowed is 1 to max_event_queue = {}", self.max_queue);
            return Err(Error::invalid_arguments(text).with_limit("max_event_queue", self.max_queue));
        }
        let wish = Wish { event, overflow, queue: queue as usize, serial };
        // There are at most 256 hubs.
        let hubs = self.inlets.len() as u32;
        let opened = || {
            self.here(event, hub.into()).fetch_add(1, Ordering::AcqRel);
            self.board.open[event as usize].fetch_add(1, Ordering::AcqRel);
        };
        let subscribed = self.inlet(hub).subscribe(client, wish, hubs, opened);
        if subscribed.is_err() {
            self.refused[0].fetch_add(1, Ordering::Relaxed);
        }
        subscribed.map(Subscription::from_number)
    }

    /// A client ends a subscription of its own.
    pub(crate) fn unsubscribe(&self, hub: u16, client: ClientKey, subscription: Subscription) -> Result<(), Error> {
        match self.inlet(hub).unsubscribe(client, subscription.number()) {
            Some(event) => {
                self.closed(hub, event);
                Ok(())
            }
            None => {
                let text = format!("this connection has no subscription {subscription}");
                Err(Error::invalid_arguments(text))
            }
        }
    }

    /// A client of a hub has left. Its subscriptions, each with its event.
    pub(crate) fn forget(&self, hub: u16, client: ClientKey) -> Vec<(u32, u32)> {
        let ended = self.inlet(hub).forget(client);
        ended.iter().for_each(|(_, event)| self.closed(hub, *event));
        ended
    }

    /// A subscription ends whose client has left before its hub came to it.
    pub(crate) fn end(&self, hub: u16, subscription: u32) {
        if let Some(event) = self.inlet(hub).end(subscription) {
            self.closed(hub, event);
        }
    }

    fn closed(&self, hub: u16, event: u32) {
        self.here(event, hub.into()).fetch_sub(1, Ordering::AcqRel);
        self.board.open[event as usize].fetch_sub(1, Ordering::AcqRel);
    }

    fn here(&self, event: u32, hub: usize) -> &AtomicU32 {
        &self.here[event as usize * self.inlets.len() + hub]
    }

    /// The publisher of a program by its name, see [`Self::program`].
    pub(crate) fn publisher_by_name(&self, program: &str) -> Result<Publisher, Error> {
        self.program(program).map(|(place, _)| Publisher::of(place.clone()))
    }

    /// The program with this name, in its highest version, or the one that is named as `program/version`.
    fn program(&self, program: &str) -> Result<&ProgramEvents, Error> {
        let (name, version) = match program.split_once('/') {
            None => (program, None),
            Some((name, version)) => {
                let number = version.parse::<u32>();
                let wrong = |_| Error::invalid_arguments(format!("{version:?} is no version of a program"));
                (name, Some(number.map_err(wrong)?))
            }
        };
        let mut versions: Vec<&ProgramEvents> =
            self.programs.values().filter(|(place, _)| place.name == name).collect();
        versions.sort_unstable_by_key(|(place, _)| place.version);
        let Some(newest) = versions.last() else {
            return Err(Error::new(Code::UNKNOWN_PROGRAM, format!("there is no program {name:?}")));
        };
        let Some(version) = version else { return Ok(newest) };
        versions.iter().find(|(place, _)| place.version == version).copied().ok_or_else(|| {
            let existing: Vec<u32> = versions.iter().map(|(place, _)| place.version).collect();
            Error::unknown_version(name, newest.0.number, version, &existing)
        })
    }

    /// The event with these names, or what the client is told.
    fn find(&self, program: &str, event: &str) -> Result<u32, Error> {
        let (place, range) = self.program(program)?;
        let names =
            || range.clone().map(|event| (event, self.event(event).name.rsplit('.').next().unwrap_or_default()));
        names().find(|(_, known)| *known == event).map(|(event, _)| event).ok_or_else(|| {
            let known: Vec<&str> = names().map(|(_, known)| known).collect();
            let known =
                if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
            let Place { name, version, .. } = &**place;
            Error::invalid_arguments(format!("program {name} version {version} has no event {event:?}; {known}"))
        })
    }

    /// What was counted of each event that has subscriptions, or has had any.
    pub(crate) fn count(&self) -> Vec<stats::Event> {
        let mut counted = Vec::new();
        for (index, event) in self.board.events.iter().enumerate() {
            let published = self.published[index].load(Ordering::Relaxed);
            let subscriptions = u64::from(self.board.open[index].load(Ordering::Relaxed));
            let sum = |read: fn(&super::inlet::Counts) -> &AtomicU64| -> u64 {
                self.inlets.iter().map(|inlet| read(&inlet.counts()[index]).load(Ordering::Relaxed)).sum()
            };
            let (delivered, lost) = (sum(|counts| &counts.delivered), sum(|counts| &counts.lost));
            if published + subscriptions + delivered + lost > 0 {
                let (name, version) = (event.name.clone(), event.version);
                counted.push(stats::Event { name, version, subscriptions, published, delivered, lost });
            }
        }
        counted
    }

    /// How often the limits of subscribing refused one.
    pub(crate) fn count_limits(&self, limits: &mut std::collections::BTreeMap<&'static str, u64>) {
        for (key, refused) in ["max_client_subscriptions", "max_event_queue"].into_iter().zip(&self.refused) {
            *limits.entry(key).or_default() += refused.load(Ordering::Relaxed);
        }
    }
}
