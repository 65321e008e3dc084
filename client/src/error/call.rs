//! Why a call has no result.

use std::fmt;
use std::time::Duration;

use postroom_protocol::{Code, DecodeError, EncodeError, Error};

use super::{CloseReason, ConnectError};

/// Why a call has no result.
///
/// Its `Debug` output is its text too, because that is what a `main` that returns it prints.
#[derive(Clone)]
#[non_exhaustive]
pub enum CallError {
    /// The service answered with an error.
    Service(Error),
    /// This client refused the call, or its reply, in the words that a service would use: a packet over a limit
    /// (`too_large`), metadata over its limit (`invalid_arguments`), or a name that the directory does not know
    /// (`unknown_program`, `unknown_version`, `unknown_procedure`).
    Refused(Error),
    /// The connection ended before the reply. Whether the call ran is not known.
    Closed(CloseReason),
    /// The deadline passed before the reply; it was this long. The service has been told to give the call up.
    Deadline(Duration),
    /// The arguments do not encode. Nothing was sent.
    Encode(EncodeError),
    /// The reply does not decode as what was asked for. The call did run.
    Decode(DecodeError),
    /// There is no connection, and the last attempt failed. Nothing was sent.
    Connect(ConnectError),
}

impl CallError {
    /// The error's code, where the service or, in its words, this client gave one.
    #[must_use]
    pub fn code(&self) -> Option<&Code> {
        match self {
            Self::Service(error) | Self::Refused(error) => Some(error.code()),
            Self::Closed(reason) => reason.announced().map(Error::code),
            Self::Connect(error) => error.refusal().map(Error::code),
            Self::Deadline(_) => Some(&Code::DEADLINE_EXCEEDED),
            Self::Encode(_) | Self::Decode(_) => None,
        }
    }

    /// Whether the deadline passed, no matter which side noticed first.
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        match self {
            Self::Deadline(_) => true,
            Self::Service(error) => *error.code() == Code::DEADLINE_EXCEEDED,
            _ => false,
        }
    }
}

impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(error) => write!(f, "the service answered: {error}"),
            Self::Refused(error) => write!(f, "the call was refused before the service saw it through: {error}"),
            Self::Closed(reason) => {
                write!(f, "no reply: {reason}; the call may have run: try again if running it twice does no harm")
            }
            Self::Deadline(deadline) => {
                write!(
                    f,
                    "no reply within the deadline of {deadline:?}; try a longer one, or see if the service is busy"
                )
            }
            Self::Encode(error) => write!(f, "nothing was sent: {error}; look at the arguments' Serialize"),
            Self::Decode(error) => {
                write!(f, "the reply does not fit the type that was asked for: {error}; compare it with the service's")
            }
            Self::Connect(error) => write!(f, "nothing was sent: {error}"),
        }
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Service(error) | Self::Refused(error) => Some(error),
            Self::Closed(reason) => Some(reason),
            Self::Encode(error) => Some(error),
            Self::Decode(error) => Some(error),
            Self::Connect(error) => Some(error),
            Self::Deadline(_) => None,
        }
    }
}

impl From<EncodeError> for CallError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<DecodeError> for CallError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}
