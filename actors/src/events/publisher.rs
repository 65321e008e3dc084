//! The handle by which a program publishes its events.
//!
//! A [`Publisher`] belongs to one program. It can be had before the service starts, from the program's declaration;
//! what is published before that, or after the end of the service, is for nobody.
//!
//! It has no queue. What is published goes into the inlets of the hubs, which bound it; nothing here waits.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use postroom_protocol::{Error, HEADER_LEN, codec, event, xdr};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::events::bulletin::{Board, Bulletin};
use crate::events::{Event, Kind, Subscription};
use crate::program::Codec;

/// Publishes the events of one program: from its handlers, from callbacks of the event loop, from any thread.
///
/// Publishing never waits for anybody. The value is encoded once, for all who subscribed; where nobody did, it is not
/// encoded at all and publishing costs no more than looking whether anybody did. Each subscription gets what one thread
/// publishes in the order in which that did so.
///
/// Handlers get it by [`Call::publisher`](crate::Call::publisher); a program has it by
/// [`Program::publisher`](crate::Program::publisher) before there is a service, to be passed to whatever publishes.
#[derive(Clone, Debug)]
pub struct Publisher(Arc<Place>);

/// A program as its publishers know it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) number: u32,
    pub(crate) version: u32,
    bound: OnceLock<Bound>,
}

/// Where events go.
#[derive(Debug)]
enum Bound {
    Service(Service),
    /// To a test.
    Capture(Arc<Capture>),
}

#[derive(Debug)]
struct Service {
    board: Arc<Board>,
    /// The numbers of the program's events; the first of them is at `first` of the board.
    numbers: Box<[i32]>,
    first: u32,
    /// It keeps nothing of the service alive.
    bulletin: Weak<Bulletin>,
}

impl Place {
    pub(crate) fn new(name: String, number: u32, version: u32) -> Arc<Self> {
        Arc::new(Self { name, number, version, bound: OnceLock::new() })
    }

    /// The service has started; the program's events are these of its board.
    pub(crate) fn bind(&self, board: &Arc<Board>, events: Range<u32>, bulletin: &Arc<Bulletin>) {
        let first = events.start;
        let numbers = events.map(|event| board.events[event as usize].number).collect();
        let bulletin = Arc::downgrade(bulletin);
        // A program belongs to one service.
        let _ = self.bound.set(Bound::Service(Service { board: board.clone(), numbers, first, bulletin }));
    }
}

impl Publisher {
    pub(crate) fn of(place: Arc<Place>) -> Self {
        Self(place)
    }

    /// A publisher whose events are for nobody.
    pub(crate) fn for_nobody() -> Self {
        Self(Place::new(String::new(), 0, 0))
    }

    /// A publisher for the test of a handler: [`Self::captured`] tells what was published by it and its clones.
    pub fn for_test() -> Self {
        let place = Place::new("test".to_owned(), 1, 1);
        let _ = place.bound.set(Bound::Capture(Arc::default()));
        Self(place)
    }

    /// What was published by a publisher of [`Self::for_test`] since this was asked last, in order.
    pub fn captured(&self) -> Vec<Captured> {
        match self.0.bound.get() {
            Some(Bound::Capture(capture)) => std::mem::take(&mut capture.lock().published),
            _ => Vec::new(),
        }
    }

    /// Publishes an event to all who subscribed to it.
    ///
    /// A value that does not encode, or is longer than `max_packet` allows, is a defect of the program: the log names
    /// it, and the event counts as lost for all who subscribed.
    pub fn publish<T: ?Sized + Serialize + 'static>(&self, event: Event<T>, value: &T) {
        match self.0.bound.get() {
            Some(Bound::Service(service)) => {
                if let Some((bulletin, number)) = self.wanted(service, event) {
                    let codec = bulletin.event(number).codec;
                    bulletin.publish(number, self.encode(event, value, codec, bulletin.max_packet()));
                }
            }
            Some(Bound::Capture(capture)) => capture.push(event, None, value),
            None => {}
        }
    }

    /// Publishes an event with a value of its own for each subscription; one for which `value` returns nothing gets
    /// nothing, and does not count it as lost.
    ///
    /// For programs whose clients subscribe by procedures of the program's own, with filters or marks of their own.
    /// `value` is called on this thread, once for each subscription that is open.
    pub fn publish_each<T: Serialize + 'static>(
        &self,
        event: Event<T>,
        mut value: impl FnMut(Subscription) -> Option<T>,
    ) {
        match self.0.bound.get() {
            Some(Bound::Service(service)) => {
                if let Some((bulletin, number)) = self.wanted(service, event) {
                    let (codec, max_packet) = (bulletin.event(number).codec, bulletin.max_packet());
                    let encode = |value: T| self.encode(event, &value, codec, max_packet);
                    bulletin.publish_each(number, |it| value(it).map(encode));
                }
            }
            Some(Bound::Capture(capture)) => {
                for subscription in capture.subscriptions(event.number()) {
                    if let Some(value) = value(subscription) {
                        capture.push(event, Some(subscription), &value);
                    }
                }
            }
            None => {}
        }
    }

    /// Whether anybody has subscribed to an event: where its value is costly to make, and nobody wants it.
    pub fn is_wanted<T: ?Sized + 'static>(&self, event: Event<T>) -> bool {
        match self.0.bound.get() {
            Some(Bound::Service(service)) => service.find(event.number()).is_some_and(|it| service.board.is_wanted(it)),
            Some(Bound::Capture(_)) => true,
            None => false,
        }
    }

    /// The event among those of the service, if anybody wants it.
    #[inline]
    fn wanted<T: ?Sized + 'static>(&self, service: &Service, event: Event<T>) -> Option<(Arc<Bulletin>, u32)> {
        let Some(number) = service.find(event.number()) else {
            self.is_wrong(event, format_args!("which it has not declared"));
            return None;
        };
        if !service.board.is_wanted(number) {
            return None;
        }
        let (declared, given) = (service.board.events[number as usize].value, Kind::of::<T>());
        if declared != given {
            self.is_wrong(event, format_args!("with a {}, and has declared it with a {}", given.name, declared.name));
            return None;
        }
        service.bulletin.upgrade().map(|bulletin| (bulletin, number))
    }

    #[cold]
    fn is_wrong<T: ?Sized>(&self, event: Event<T>, how: std::fmt::Arguments<'_>) {
        log::error!("program {} publishes its event {} ({}), {how}", self.0.name, event.name(), event.number());
    }

    /// The value as it goes to every client; nothing if it cannot be sent.
    fn encode<T: ?Sized + Serialize>(
        &self,
        event: Event<T>,
        value: &T,
        codec: Codec,
        max_packet: u32,
    ) -> Option<Bytes> {
        let mut encoded = Vec::new();
        if let Err(error) = encode_value(value, codec, &mut encoded) {
            log::error!("an event of {}.{} was not sent: {error}", self.0.name, event.name());
            return None;
        }
        let length = encoded.len() + HEADER_LEN + event::MAX_HEAD;
        if length > max_packet as usize {
            let error = Error::too_large(length as u64, "max_packet", max_packet);
            log::error!("an event of {}.{} was not sent: {error}", self.0.name, event.name());
            return None;
        }
        // Without the room that encoding has left over: it may wait for long.
        Some(Bytes::from(encoded.into_boxed_slice()))
    }
}

/// Appends a value in the payload codec of the program.
fn encode_value<T: ?Sized + Serialize>(value: &T, codec: Codec, out: &mut Vec<u8>) -> Result<(), String> {
    match codec {
        Codec::MessagePack => codec::encode(value, out).map_err(|error| error.to_string()),
        Codec::Xdr => xdr::encode(value, out).map_err(|error| error.to_string()),
    }
}

impl Service {
    /// Where on the board the event with this number is.
    #[inline]
    fn find(&self, number: i32) -> Option<u32> {
        let index = self.numbers.iter().position(|&it| it == number)?;
        Some(self.first + index as u32)
    }
}

/// What was published in a test.
#[derive(Debug, Default)]
pub(crate) struct Capture(Mutex<Caught>);

#[derive(Debug, Default)]
struct Caught {
    published: Vec<Captured>,
    /// What calls of the test subscribed to: the event and the subscription.
    subscriptions: Vec<(i32, Subscription)>,
    last: u32,
}

/// An event that was published in a test.
#[derive(Clone, Debug)]
pub struct Captured {
    /// The name of the event.
    pub event: &'static str,
    /// Its number.
    pub number: i32,
    /// The one subscription that it was published to, if not to all.
    pub subscription: Option<Subscription>,
    value: Vec<u8>,
}

impl Captured {
    /// The value, as a client would decode it.
    ///
    /// # Errors
    ///
    /// When it does not fit the type.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, postroom_protocol::DecodeError> {
        codec::decode(&self.value)
    }
}

impl Capture {
    fn lock(&self) -> std::sync::MutexGuard<'_, Caught> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push<T: ?Sized + Serialize>(&self, event: Event<T>, subscription: Option<Subscription>, value: &T) {
        let mut encoded = Vec::new();
        match encode_value(value, Codec::MessagePack, &mut encoded) {
            Ok(()) => {
                let captured = Captured { event: event.name(), number: event.number(), subscription, value: encoded };
                self.lock().published.push(captured);
            }
            Err(error) => log::error!("an event of {} was not captured: {error}", event.name()),
        }
    }

    fn subscriptions(&self, event: i32) -> Vec<Subscription> {
        let caught = self.lock();
        caught.subscriptions.iter().filter(|(number, _)| *number == event).map(|(_, it)| *it).collect()
    }
}

/// What a test's calls do in place of subscribing.
impl Publisher {
    pub(crate) fn test_subscribe(&self, event: i32) -> Result<Subscription, Error> {
        let Some(Bound::Capture(capture)) = self.0.bound.get() else { return Err(nobody()) };
        let mut caught = capture.lock();
        caught.last += 1;
        let subscription = Subscription::from_number(caught.last);
        caught.subscriptions.push((event, subscription));
        Ok(subscription)
    }

    pub(crate) fn test_unsubscribe(&self, subscription: Subscription) -> Result<(), Error> {
        let Some(Bound::Capture(capture)) = self.0.bound.get() else { return Err(nobody()) };
        let mut caught = capture.lock();
        let before = caught.subscriptions.len();
        caught.subscriptions.retain(|(_, it)| *it != subscription);
        if caught.subscriptions.len() < before {
            Ok(())
        } else {
            Err(Error::invalid_arguments(format!("this connection has no subscription {subscription}")))
        }
    }
}

fn nobody() -> Error {
    Error::unsupported("this call has no connection that events could go to")
}
