//! Events: what a program tells its clients without being asked, and how it gets to those who subscribed.
//!
//! A program declares an [`Event`] by its number, its name and the type of its value; whoever has a [`Publisher`] of the
//! program publishes values from any thread; clients subscribe, through `directory.subscribe` or a procedure of the
//! program that calls [`Call::subscribe`](crate::Call::subscribe).
//!
//! ```text
//! publisher ──one encoded value──► inlet of each hub with subscriptions ──► queue of each subscription ──► output
//!  (any thread)                     (bounded, shared)                        (bounded, on the hub's thread)
//! ```
//!
//! - `publisher`: the handle, and what it costs to publish.
//! - `bulletin`: all events of a service: who subscribed to what, and the way to each hub.
//! - `inlet`: the events on their way to one hub.
//! - `queue`, `outlet`: what waits for one subscription, and for one client, to have room.
//! - `frame`: the bytes of an event for one client.
//! - `clients`: the event by which the service tells who comes and goes.
//!
//! Publishing never waits: at each bound on the way events are dropped, and each subscription is told how many of its
//! own were, with the next event that it gets.

mod bulletin;
mod clients;
mod frame;
pub(crate) mod inlet;
pub(crate) mod outlet;
mod publisher;
mod queue;

use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, schema_for};
use serde::Serialize;

pub(crate) use bulletin::{Bulletin, Described, ProgramEvents};
pub use clients::{ClientChange, ClientEvents, ClientState};
pub use postroom_protocol::event::Overflow;
pub(crate) use publisher::Place;
pub use publisher::{Captured, Publisher};

/// An event of a program: its number on the wire, its name, and the type of its value.
///
/// Made as a constant beside the program, it is what the program declares, publishes and subscribes to; a value of
/// another type does not compile.
///
/// ```
/// # use postroom_actors::Program;
/// use postroom_actors::events::Event;
///
/// #[derive(serde::Serialize)]
/// struct Reading {
///     celsius: f32,
/// }
///
/// const READING: Event<Reading> = Event::new(1, "reading");
///
/// let program = Program::new("thermometer", 0x7468_726d, 1).event(READING);
/// program.publisher().publish(READING, &Reading { celsius: 21.5 });
/// ```
///
/// ```compile_fail
/// # use postroom_actors::Program;
/// use postroom_actors::events::Event;
///
/// const READING: Event<f32> = Event::new(1, "reading");
///
/// let program = Program::new("thermometer", 0x7468_726d, 1).event(READING);
/// program.publisher().publish(READING, &"hot"); // The value of this event is a number.
/// ```
pub struct Event<T: ?Sized> {
    number: i32,
    name: &'static str,
    schema: Option<fn() -> Schema>,
    value: PhantomData<fn(&T)>,
}

impl<T: ?Sized> Event<T> {
    /// The event with this number, from 1, and this name; both are unique within the program.
    pub const fn new(number: i32, name: &'static str) -> Self {
        Self { number, name, schema: None, value: PhantomData }
    }

    /// Gives the JSON schema of the value, as its type derives it: `directory.describe` then tells it to clients.
    #[must_use]
    pub const fn schema(mut self) -> Self
    where
        T: JsonSchema,
    {
        self.schema = Some(|| schema_for!(T));
        self
    }

    /// The number on the wire.
    pub const fn number(&self) -> i32 {
        self.number
    }

    /// The name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T: ?Sized> Clone for Event<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Event<T> {}

impl<T: ?Sized> fmt::Debug for Event<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Event({}, {:?})", self.number, self.name)
    }
}

/// An event as a program declares it, the type of its value forgotten.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// Its number on the wire, from 1.
    pub number: i32,
    /// Its name, unique among the events of the program.
    pub name: &'static str,
    /// The JSON schema of its value, where the program gives it.
    pub schema: Option<Arc<Schema>>,
    /// The type of its value.
    pub(crate) value: Kind,
}

impl Declaration {
    pub(crate) fn new<T: ?Sized + 'static>(event: Event<T>) -> Self {
        let schema = event.schema.map(|schema| Arc::new(schema()));
        Self { number: event.number, name: event.name, schema, value: Kind::of::<T>() }
    }
}

/// A type, by what tells it from others and by its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    id: TypeId,
    pub(crate) name: &'static str,
}

impl Kind {
    pub(crate) fn of<T: ?Sized + 'static>() -> Self {
        Self { id: TypeId::of::<T>(), name: std::any::type_name::<T>() }
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// One subscription: the wish of one client for one event.
///
/// Its number is unique among those that are open in the service, and below 2³¹.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Subscription(u32);

impl Subscription {
    /// The subscription with this number, as a client names it.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// The number, which also is the serial of its events, unless another was chosen.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a client wants its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// What is dropped when the queue is full.
    pub overflow: Overflow,
    /// How many events may wait for the client to read, from 1 to `max_event_queue`; without it 256, or that limit.
    pub queue: Option<u32>,
    /// The serial of its events; without it the number of the subscription.
    pub serial: Option<u32>,
}

impl SubscribeOptions {
    /// The oldest events are dropped when 256 wait, and the serial is the number of the subscription.
    pub const DEFAULT: Self = Self { overflow: Overflow::DropOldest, queue: None, serial: None };
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}
