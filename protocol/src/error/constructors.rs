//! One constructor for each error that a service raises itself.
//!
//! They keep code, wording and flags in one place, so that the same thing always reads the same.

use std::time::Duration;

use super::Error;
use crate::code::Code;
use crate::codec::shorten;

/// The longest part of a client's own words that an error repeats, in bytes.
const MAX_QUOTE: usize = 64;

impl Error {
    /// The handler itself reports an error.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Code::FAILED, message)
    }

    /// No program has this number.
    #[must_use]
    pub fn unknown_program(program: u32, version: u32) -> Self {
        Self::new(
            Code::UNKNOWN_PROGRAM,
            format!("no program has number {program:#010x} (version {version} was called)"),
        )
    }

    /// The program exists, but only in the versions `existing`.
    #[must_use]
    pub fn unknown_version(name: &str, number: u32, version: u32, existing: &[u32]) -> Self {
        let existing: Vec<String> = existing.iter().map(u32::to_string).collect();
        Self::new(
            Code::UNKNOWN_VERSION,
            format!("program {name} ({number:#010x}) has no version {version}; it has: {}", existing.join(", ")),
        )
    }

    /// The program has no procedure of this number.
    #[must_use]
    pub fn unknown_procedure(program_name: &str, procedure: i32) -> Self {
        Self::new(Code::UNKNOWN_PROCEDURE, format!("program {program_name} has no procedure {procedure}"))
    }

    /// No program has this name. A name that is long is repeated in part.
    #[must_use]
    pub fn unknown_program_name(name: &str) -> Self {
        Self::new(Code::UNKNOWN_PROGRAM, format!("there is no program {:?}", shorten(name, MAX_QUOTE)))
    }

    /// The program has no procedure of this name. A name that is long is repeated in part.
    #[must_use]
    pub fn unknown_procedure_name(program_name: &str, version: u32, procedure: &str) -> Self {
        let procedure = shorten(procedure, MAX_QUOTE);
        Self::new(
            Code::UNKNOWN_PROCEDURE,
            format!("program {program_name} version {version} has no procedure {procedure:?}"),
        )
    }

    /// The arguments or the metadata do not decode; the message says where.
    pub fn invalid_arguments(message: impl Into<String>) -> Self {
        Self::new(Code::INVALID_ARGUMENTS, message)
    }

    /// A packet of `length` bytes is over the limit named `key`.
    #[must_use]
    pub fn too_large(length: impl Into<u64>, key: &str, limit: impl Into<u64>) -> Self {
        let (length, limit) = (length.into(), limit.into());
        Self::new(Code::TOO_LARGE, format!("the packet has {length} bytes, and {key} is {limit}"))
            .with_limit(key, limit)
    }

    /// The peer broke the format.
    pub fn protocol(message: impl Into<String>) -> Self {
        Self::new(Code::PROTOCOL, message)
    }

    /// The service is at fault; its log says more under `incident`.
    pub fn internal(incident: impl Into<String>) -> Self {
        let incident = incident.into();
        Self::new(Code::INTERNAL, format!("the service failed; its log says more under incident {incident}"))
            .with_incident(incident)
    }

    /// The service is at the limit named `key`, which holds for all clients.
    #[must_use]
    pub fn overloaded(key: &str, value: impl Into<u64>, retry_after_ms: impl Into<Option<u32>>) -> Self {
        let value = value.into();
        let error = Self::new(Code::OVERLOADED, format!("the service is at its limit: {key} is {value}"))
            .with_limit(key, value);
        match retry_after_ms.into() {
            Some(retry_after_ms) => error.with_retry_after_ms(retry_after_ms),
            None => error.with_retryable(),
        }
    }

    /// The service is stopping; another instance may take the call.
    #[must_use]
    pub fn shutting_down() -> Self {
        Self::new(Code::SHUTTING_DOWN, "the service is shutting down").with_retryable()
    }

    /// The service does not do this, here or yet.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Code::UNSUPPORTED, message)
    }

    /// The deadline of the call, `deadline_ms` after its receipt, passed before its result was there.
    #[must_use]
    pub fn deadline_exceeded(deadline_ms: u32) -> Self {
        Self::new(Code::DEADLINE_EXCEEDED, format!("the call was not done within its deadline of {deadline_ms} ms"))
    }

    /// The call was cancelled by its client.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(Code::CANCELLED, "the call was cancelled")
    }

    /// A packet was begun, or the first one was due, and did not come whole in time.
    #[must_use]
    pub fn packet_timeout(key: &str, after: Duration) -> Self {
        Self::timeout(Code::PACKET_TIMEOUT, "no whole packet arrived", key, after)
    }

    /// The client did not take its replies in time.
    #[must_use]
    pub fn write_timeout(key: &str, after: Duration) -> Self {
        Self::timeout(Code::WRITE_TIMEOUT, "replies were not read", key, after)
    }

    /// The client said nothing for too long.
    #[must_use]
    pub fn idle_timeout(key: &str, after: Duration) -> Self {
        Self::timeout(Code::IDLE_TIMEOUT, "the connection was idle", key, after)
    }

    /// The client did not answer keepalive packets.
    #[must_use]
    pub fn keepalive_timeout(key: &str, after: Duration) -> Self {
        Self::timeout(Code::KEEPALIVE_TIMEOUT, "keepalive packets were not answered", key, after)
    }

    /// The value of a limit in time is in milliseconds on the wire.
    fn timeout(code: Code, what: &str, key: &str, after: Duration) -> Self {
        let value = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        Self::new(code, format!("{what} for {value} ms, as {key} allows")).with_limit(key, value)
    }
}
