//! The error of a call, as its client sees it.
//!
//! Handlers and the service make errors; the wire form travels as the payload of an error reply; clients decode it again.
//! An error carries what the client may know and nothing else: internals belong in the service's log, under the incident's name.

mod constructors;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::codec::{self, DecodeError};
use crate::header::{Header, Status};
use crate::packet;

/// What went wrong with a call.
///
/// It is one pointer wide, so that a `Result` with it stays small.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Error(Box<Fields>);

/// The wire form: a map by these names, options left out when absent, unknown keys ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Fields {
    code: Code,
    #[serde(default)]
    message: String,
    #[serde(default)]
    retryable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incident: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details: Option<rmpv::Value>,
}

impl Error {
    /// An error that is not retryable and says nothing but its code and message.
    ///
    /// The message is one sentence for a person, with the value that was refused.
    pub fn new(code: impl Into<Code>, message: impl Into<String>) -> Self {
        Self(Box::new(Fields {
            code: code.into(),
            message: message.into(),
            retryable: false,
            retry_after_ms: None,
            limit: None,
            value: None,
            incident: None,
            details: None,
        }))
    }

    /// Says that the same call may succeed later.
    #[must_use]
    pub fn with_retryable(mut self) -> Self {
        self.0.retryable = true;
        self
    }

    /// Says that the same call may succeed after so many milliseconds.
    #[must_use]
    pub fn with_retry_after_ms(mut self, retry_after_ms: u32) -> Self {
        self.0.retry_after_ms = Some(retry_after_ms);
        self.with_retryable()
    }

    /// Names the limit that was hit: its configuration key and its value.
    #[must_use]
    pub fn with_limit(mut self, key: impl Into<String>, value: impl Into<u64>) -> Self {
        self.0.limit = Some(key.into());
        self.0.value = Some(value.into());
        self
    }

    /// Names the incident under which the service's log says more.
    #[must_use]
    pub fn with_incident(mut self, incident: impl Into<String>) -> Self {
        self.0.incident = Some(incident.into());
        self
    }

    /// Adds a handler's own details. A value that does not serialise is left out:
    /// an error without details is worth more to the client than an error about an error.
    #[must_use]
    pub fn with_details(mut self, details: impl Serialize) -> Self {
        self.0.details = codec::to_value(&details);
        self
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &Code {
        &self.0.code
    }

    /// One sentence for a person.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        self.0.retryable
    }

    /// After how many milliseconds to try again, where the service has an opinion.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u32> {
        self.0.retry_after_ms
    }

    /// The configuration key and the value of the limit that was hit, where one was.
    #[must_use]
    pub fn limit(&self) -> Option<(&str, u64)> {
        Some((self.0.limit.as_deref()?, self.0.value?))
    }

    /// The name under which the service's log says more.
    #[must_use]
    pub fn incident(&self) -> Option<&str> {
        self.0.incident.as_deref()
    }

    /// A handler's own details.
    #[must_use]
    pub fn details(&self) -> Option<&rmpv::Value> {
        self.0.details.as_ref()
    }

    /// Reads the payload of an error reply.
    ///
    /// # Errors
    ///
    /// When the payload is not an error's wire form.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(payload)
    }
}

/// Appends the error reply to the call with this header: a whole packet.
pub fn encode_reply_error(header: &Header, error: &Error, out: &mut Vec<u8>) {
    let start = packet::begin(&header.reply(Status::Error), out);
    encode_payload(error, out);
    packet::finish(start, out);
}

/// Appends the announced close: a whole packet, the last one of its connection.
pub fn encode_announcement(error: &Error, out: &mut Vec<u8>) {
    let start = packet::begin(&Header::ANNOUNCEMENT, out);
    encode_payload(error, out);
    packet::finish(start, out);
}

/// Appends the payload of an error reply, without a packet around it.
pub(crate) fn encode_payload(error: &Error, out: &mut Vec<u8>) {
    // Strings, numbers and MessagePack values always encode, and writing to memory does not fail.
    // Were it to fail all the same, an error reply without payload is still an error reply.
    let encoded = codec::encode(error, out);
    debug_assert!(encoded.is_ok(), "an error must encode: {encoded:?}");
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for Error {}

impl From<&str> for Error {
    fn from(message: &str) -> Self {
        Self::failed(message)
    }
}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Self::failed(message)
    }
}
