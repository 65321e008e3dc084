//! One call of a blocking client, while it is being put together.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::wait::wait;
use crate::call::Call;
use crate::error::CallError;

/// A call that is not sent yet, as [`crate::Request`].
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request<'a>(crate::Request<'a>);

impl<'a> Request<'a> {
    pub(super) fn new(request: crate::Request<'a>) -> Self {
        Self(request)
    }

    /// The arguments. Should they not encode, sending says so.
    pub fn args(self, args: &(impl Serialize + ?Sized)) -> Self {
        Self(self.0.args(args))
    }

    /// The arguments as they are, see [`crate::Request::raw_args`].
    pub fn raw_args(self, payload: impl Into<Vec<u8>>) -> Self {
        Self(self.0.raw_args(payload))
    }

    /// How long the result is of use, see [`crate::Request::deadline`].
    pub fn deadline(self, deadline: Duration) -> Self {
        Self(self.0.deadline(deadline))
    }

    /// No deadline, also if the client has one.
    pub fn no_deadline(self) -> Self {
        Self(self.0.no_deadline())
    }

    /// The W3C `traceparent` that the call belongs to.
    pub fn trace(self, trace: impl Into<String>) -> Self {
        Self(self.0.trace(trace))
    }

    /// Calls of one client with the same key run one after the other, see [`crate::Request::key`].
    pub fn key(self, key: impl Into<Vec<u8>>) -> Self {
        Self(self.0.key(key))
    }

    /// Running the call twice does no harm, see [`crate::Request::idempotent`].
    pub fn idempotent(self) -> Self {
        Self(self.0.idempotent())
    }

    /// Sends the call and waits for its result.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn send<R: DeserializeOwned>(self) -> Result<R, CallError> {
        complete(self.0.send())
    }

    /// Sends the call and waits for its result, as the bytes that came.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; there is nothing to decode but an error.
    pub fn send_raw(self) -> Result<Bytes, CallError> {
        complete(self.0.send_raw())
    }
}

/// Waits for a call, with a deadline that this thread watches.
fn complete<T>(call: Call<'_, T>) -> Result<T, CallError> {
    let (after, at) = call.deadline().unwrap_or_default();
    wait(call.without_timer(), at.map(tokio::time::Instant::into_std)).unwrap_or(Err(CallError::Deadline(after)))
}
