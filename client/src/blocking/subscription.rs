//! Subscriptions of a blocking client: an iterator that waits.

use std::time::Duration;

use postroom_protocol::event::Overflow;
use serde::de::DeserializeOwned;

use super::client::Client;
use super::wait::wait;
use crate::error::CallError;
use crate::subscription::{Event, SubscriptionError};

/// A subscription that is not asked for yet, as [`crate::Subscribe`].
#[derive(Debug)]
#[must_use = "a subscription is asked for when it is opened"]
pub struct Subscribe<'a, T> {
    inner: crate::Subscribe<'a, T>,
    client: Client,
}

impl<'a, T: DeserializeOwned> Subscribe<'a, T> {
    pub(super) fn new(inner: crate::Subscribe<'a, T>, client: Client) -> Self {
        Self { inner, client }
    }

    /// What is dropped when events come faster than they are read, see [`crate::Subscribe::overflow`].
    pub fn overflow(self, overflow: Overflow) -> Self {
        Self { inner: self.inner.overflow(overflow), ..self }
    }

    /// How many events may wait, see [`crate::Subscribe::queue`].
    pub fn queue(self, queue: u32) -> Self {
        Self { inner: self.inner.queue(queue), ..self }
    }

    /// Asks for the subscription, see [`crate::Subscribe::open`].
    ///
    /// # Errors
    ///
    /// As those of a call.
    pub fn open(self) -> Result<Subscription<T>, CallError> {
        // Without a point in time it waits to the end.
        let inner = wait(self.inner.open(), None).unwrap_or(Err(CallError::Deadline(Duration::ZERO)))?;
        Ok(Subscription { inner, _client: self.client })
    }
}

/// A subscription: an iterator over events that waits for the next one, as [`crate::Subscription`]. Dropping it ends
/// it.
#[derive(Debug)]
pub struct Subscription<T> {
    inner: crate::Subscription<T>,
    /// The connection, and the thread that runs it.
    _client: Client,
}

impl<T: DeserializeOwned> Subscription<T> {
    /// The next event, if there is one within this time; `None` if there is not, or the subscription has ended.
    pub fn next_within(&mut self, time: Duration) -> Option<Result<Event<T>, SubscriptionError>> {
        // A time beyond the end of time is none.
        let until = std::time::Instant::now().checked_add(time);
        wait(self.inner.next(), until).flatten()
    }
}

impl<T: DeserializeOwned> Iterator for Subscription<T> {
    type Item = Result<Event<T>, SubscriptionError>;

    fn next(&mut self) -> Option<Self::Item> {
        wait(self.inner.next(), None).flatten()
    }
}
