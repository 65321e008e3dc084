//! One call, while it is being put together.
//!
//! Arguments are encoded when they are given, so a request never borrows them.

use std::time::Duration;

use bytes::Bytes;
use postroom_protocol::metadata::MAX_METADATA;
use postroom_protocol::{EncodeError, Error, Metadata, codec};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::Call;
use crate::client::Client;
use crate::error::CallError;
use crate::exchange::{Answer, Outgoing};
use crate::procedure::{Procedure, Target};

/// Room for the arguments of a small call and for its reply, which takes their place.
const FIRST_CAPACITY: usize = 256;

/// The most that metadata takes besides the trace and the key: keys, lengths and the deadline.
const METADATA_OVERHEAD: usize = 64;

/// A call that is not sent yet. Without arguments it sends none, which procedures without arguments accept.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request<'a> {
    client: &'a Client,
    target: Target<'a>,
    payload: Result<Vec<u8>, EncodeError>,
    deadline: Option<Duration>,
    metadata: Option<Box<Metadata>>,
    idempotent: bool,
}

impl<'a> Request<'a> {
    pub(crate) fn new(client: &'a Client, target: Target<'a>) -> Self {
        let deadline = client.deadline();
        Self { client, target, payload: Ok(Vec::new()), deadline, metadata: None, idempotent: false }
    }

    /// The arguments. Should they not encode, sending says so.
    pub fn args(mut self, args: &(impl Serialize + ?Sized)) -> Self {
        let mut payload = Vec::with_capacity(FIRST_CAPACITY);
        self.payload = codec::encode(args, &mut payload).map(|()| payload);
        self
    }

    /// The arguments as they are: one MessagePack value, or whatever the program speaks.
    pub fn raw_args(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = Ok(payload.into());
        self
    }

    /// How long the result is of use, from when the request is sent. The service is told, and gives the call up by
    /// then; the wait ends here at that time in any case. In place of the client's own, if it has one.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// No deadline, also if the client has one.
    pub fn no_deadline(mut self) -> Self {
        self.deadline = None;
        self
    }

    /// The W3C `traceparent` that the call belongs to.
    pub fn trace(mut self, trace: impl Into<String>) -> Self {
        self.metadata.get_or_insert_default().trace = Some(trace.into());
        self
    }

    /// Calls of one client with the same key run one after the other, in the order in which they were sent.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.metadata.get_or_insert_default().key = Some(key.into());
        self
    }

    /// Running the call twice does no harm: if the connection is lost and the client [comes
    /// back](crate::ClientBuilder::reconnect), it is sent again.
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// The call, to be awaited for its result. Its deadline runs from now on; it is sent when it is first polled.
    ///
    /// Cancel safety: see [`Call`].
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    ///
    /// # Panics
    ///
    /// When it is awaited, if there is a deadline and no tokio runtime with time.
    #[inline]
    pub fn send<R: DeserializeOwned>(self) -> Call<'a, R> {
        self.call(Answer::decode)
    }

    /// The call, to be awaited for its result as the bytes that come: one MessagePack value, or whatever the
    /// program speaks.
    ///
    /// Cancel safety: see [`Call`].
    ///
    /// # Errors
    ///
    /// See [`CallError`]; there is nothing to decode but an error.
    ///
    /// # Panics
    ///
    /// As [`Request::send`].
    pub fn send_raw(self) -> Call<'a, Bytes> {
        self.call(Answer::into_bytes)
    }

    #[inline]
    fn call<T>(self, finish: fn(Answer) -> Result<T, CallError>) -> Call<'a, T> {
        let Self { client, target, payload, deadline, metadata, idempotent } = self;
        let checked = metadata.as_deref().map_or(Ok(()), check);
        match (payload, checked) {
            (Err(error), _) => Call::failed(CallError::Encode(error), finish),
            (_, Err(error)) => Call::failed(CallError::Refused(error), finish),
            (Ok(payload), Ok(())) => {
                // The target fills the procedure in.
                let procedure = Procedure::new(0, 0, 0);
                let outgoing = Outgoing { metadata, idempotent, ..Outgoing::new(procedure, payload) };
                Call::new(client, target, outgoing, deadline, finish)
            }
        }
    }
}

fn check(metadata: &Metadata) -> Result<(), Error> {
    let trace = metadata.trace.as_ref().map_or(0, String::len);
    let key = metadata.key.as_ref().map_or(0, Vec::len);
    match trace + key + METADATA_OVERHEAD > MAX_METADATA {
        false => Ok(()),
        true => Err(Error::invalid_arguments(format!(
            "trace and key have {} bytes, and metadata has room for {}",
            trace + key,
            MAX_METADATA - METADATA_OVERHEAD
        ))),
    }
}
