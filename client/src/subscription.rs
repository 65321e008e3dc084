//! Subscriptions, as programs see them: asked for, taken event by event, ended by being dropped.
//!
//! What has come and was not taken lies in the exchange (`inboxes`), whose bound holds here.

use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use postroom_protocol::event::{self, Overflow};
use postroom_protocol::{Error, codec};
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::directory;
use crate::error::{CallError, CloseReason};
use crate::exchange::{End, Flight, Incoming, Outgoing, Role};

/// How many events wait by default.
const DEFAULT_QUEUE: u32 = 256;

/// A subscription that is not asked for yet; awaiting it does.
///
/// ```no_run
/// # async fn run(client: postroom_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use postroom_client::Overflow;
///
/// let mut readings = client.subscribe::<f32>("thermometer.reading").overflow(Overflow::DropNewest).queue(16).await?;
/// while let Some(reading) = readings.next().await {
///     println!("{} °C", reading?.value);
/// }
/// # Ok(()) }
/// ```
#[must_use = "a subscription is asked for when it is awaited"]
pub struct Subscribe<'a, T> {
    client: &'a Client,
    name: String,
    overflow: Overflow,
    queue: u32,
    value: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Subscribe<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, overflow, queue, .. } = self;
        f.debug_struct("Subscribe").field("name", name).field("overflow", overflow).field("queue", queue).finish()
    }
}

impl<'a, T: DeserializeOwned> Subscribe<'a, T> {
    pub(crate) fn new(client: &'a Client, name: String) -> Self {
        Self { client, name, overflow: Overflow::DropOldest, queue: DEFAULT_QUEUE, value: PhantomData }
    }

    /// What is dropped when events come faster than they are read, there and here. Without this, the oldest.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// How many events may wait in the service for this client to read, and as many here to be taken. Without this 256.
    pub fn queue(mut self, queue: u32) -> Self {
        self.queue = queue;
        self
    }

    /// Asks for the subscription. Every event that is published from now on, when this has come back, comes or is
    /// counted as lost.
    ///
    /// Cancel safety: when the future is dropped, there is no subscription.
    ///
    /// # Errors
    ///
    /// As those of a call: [`CallError::Service`] when there is no such event or a limit is reached.
    pub async fn open(self) -> Result<Subscription<T>, CallError> {
        let Self { client, name, overflow, queue, .. } = self;
        let Some((program, event)) = name.split_once('.') else {
            let text = format!("{name:?} names no event: the form is PROGRAM.EVENT or PROGRAM/VERSION.EVENT");
            return Err(CallError::Refused(Error::invalid_arguments(text)));
        };
        let payload = directory::subscribe(program, event, overflow, queue)?;
        let key = client.link().lock().open_inbox(queue as usize, overflow);
        // From here on dropping it ends what there is of it.
        let subscription = Subscription { client: client.clone(), key, value: PhantomData };
        let outgoing = Outgoing { role: Role::Subscribe(key), ..Outgoing::new(directory::SUBSCRIBE, payload) };
        Flight::new(client.link(), outgoing).await?.decode::<directory::Subscribed>()?;
        Ok(subscription)
    }
}

impl<'a, T: DeserializeOwned + 'a> IntoFuture for Subscribe<'a, T> {
    type Output = Result<Subscription<T>, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

/// A subscription: a stream of events. Dropping it ends it.
///
/// It ends with its connection: the last item is the error that says why. After a
/// [reconnect](crate::ClientBuilder::reconnect) it is to be asked for again, since nobody knows what was missed.
///
/// It is bounded, as the queue that was asked for says, here as in the service: a program that does not take its events
/// misses some, and holds up neither its calls nor anybody else.
pub struct Subscription<T> {
    client: Client,
    key: u64,
    value: PhantomData<fn() -> T>,
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<T> {
    /// What was published.
    pub value: T,
    /// How many events of this subscription were dropped between the one before and this one.
    pub lost: u64,
}

/// Why an event, or the rest of them, cannot be had.
#[derive(Clone)]
#[non_exhaustive]
pub enum SubscriptionError {
    /// The connection has ended, and the subscription with it.
    Closed(CloseReason),
    /// The subscription was to have no gaps, and this program has not taken its events in time: it has ended.
    Overflowed(Error),
    /// This event does not decode as the type that was asked for. Others may.
    Decode(postroom_protocol::DecodeError),
}

impl<T: DeserializeOwned> Subscription<T> {
    /// The next event, in the order in which they were published. `None` after the error by which the subscription has
    /// ended.
    ///
    /// Cancel safety: no event is lost.
    pub async fn next(&mut self) -> Option<Result<Event<T>, SubscriptionError>> {
        poll_fn(|context| self.poll_event(context)).await
    }

    fn poll_event(&self, context: &mut Context<'_>) -> Poll<Option<Result<Event<T>, SubscriptionError>>> {
        // The old waker is dropped after the lock.
        let (taken, _old) = self.client.link().lock().take_event(self.key, context.waker());
        let Some(taken) = taken else { return Poll::Pending };
        Poll::Ready(match taken {
            Ok(Incoming { payload, lost }) => Some(
                codec::decode::<event::Payload<T>>(&payload)
                    .map(|payload| Event { value: payload.value, lost: payload.lost + lost })
                    .map_err(SubscriptionError::Decode),
            ),
            Err(End::Closed(reason)) => Some(Err(SubscriptionError::Closed(reason))),
            Err(End::Overflowed(error)) => Some(Err(SubscriptionError::Overflowed(error))),
            Err(End::Told) => None,
        })
    }
}

impl<T: DeserializeOwned> Stream for Subscription<T> {
    type Item = Result<Event<T>, SubscriptionError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(context)
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("key", &self.key).field("peer", &self.client.peer()).finish()
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.client.link().change(|state| state.close_inbox(self.key));
    }
}

impl fmt::Debug for SubscriptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SubscriptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(reason) => write!(f, "no more events: {reason}; subscribe again on a new connection"),
            Self::Overflowed(error) => {
                write!(f, "the subscription has ended: {error}; take events sooner, or ask for a longer queue")
            }
            Self::Decode(error) => {
                write!(f, "an event does not fit the type that was asked for: {error}; compare it with the service's")
            }
        }
    }
}

impl std::error::Error for SubscriptionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Closed(reason) => Some(reason),
            Self::Overflowed(error) => Some(error),
            Self::Decode(error) => Some(error),
        }
    }
}
