//! How a command ends other than well: an exit status and a text for standard error.

use std::io::Write;

use postroom_client::{CallError, ConnectError};

use crate::service::Failure;

/// Why a command ends, and with which status.
#[derive(Debug)]
pub(super) struct Exit {
    pub(super) status: u8,
    pub(super) text: String,
}

impl Exit {
    /// Bad usage, bad configuration, or no connection.
    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self { status: 2, text: text.into() }
    }

    /// An error as the service would answer it.
    pub(super) fn service(code: &str, text: &str) -> Self {
        Self { status: 1, text: format!("{code}: {text}") }
    }
}

impl From<Failure> for Exit {
    fn from(failure: Failure) -> Self {
        Self::usage(failure.to_string())
    }
}

impl From<ConnectError> for Exit {
    fn from(error: ConnectError) -> Self {
        // A refusal is in it too.
        Self::usage(error.to_string())
    }
}

/// What a failed call means for the command.
pub(super) fn explain(error: &CallError) -> Exit {
    match error {
        CallError::Service(error) | CallError::Refused(error) => {
            let mut text = error.to_string();
            if let Some((limit, value)) = error.limit() {
                text.push_str(&format!(" (limit {limit} = {value})"));
            }
            if let Some(ms) = error.retry_after_ms() {
                text.push_str(&format!(" (try again after {ms} ms)"));
            }
            if let Some(details) = error.details() {
                text.push_str(&format!("\ndetails: {}", super::json::from_msgpack(details)));
            }
            Exit { status: 1, text }
        }
        CallError::Deadline(_) => Exit::service("deadline_exceeded", &error.to_string()),
        CallError::Closed(_) | CallError::Connect(_) | CallError::Encode(_) | CallError::Decode(_) => {
            Exit::usage(error.to_string())
        }
        _ => Exit::usage(error.to_string()),
    }
}

/// Prints a result to standard output. A reader that has gone away is no error: it has what it wanted.
pub(super) fn print(text: &str) -> Result<(), Exit> {
    let mut out = std::io::stdout().lock();
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{newline}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Exit::usage(format!("standard output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}
