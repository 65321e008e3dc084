//! Why there is no connection.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use postroom_protocol::{Code, Error};

use super::CloseReason;
use crate::location::LocationError;

/// Why there is no connection, and to where.
///
/// Its `Debug` output is its text too, because that is what a `main` that returns it prints.
#[derive(Clone)]
pub struct ConnectError(Arc<Inner>);

struct Inner {
    peer: Arc<str>,
    problem: ConnectProblem,
}

/// What keeps a client from connecting.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectProblem {
    /// The address is none.
    Location(LocationError),
    /// The address is `local:NAME`, and the connector was not given that name; these it has.
    UnknownLocal(Vec<String>),
    /// The socket could not be connected.
    Io(io::Error),
    /// The connection ended before the service had answered the greeting, perhaps with an announced reason.
    Closed(CloseReason),
    /// The service answered the greeting with an error.
    Refused(Error),
    /// What listens there answered with something else than Postroom's packets: the sentence says with what.
    NotPostroom(String),
    /// The service did not answer in this time.
    Timeout(Duration),
    /// There is no tokio runtime here.
    NoRuntime,
    /// The thread of a blocking client could not be started.
    NoThread(io::Error),
}

impl ConnectError {
    pub(crate) fn new(peer: impl Into<Arc<str>>, problem: ConnectProblem) -> Self {
        Self(Arc::new(Inner { peer: peer.into(), problem }))
    }

    /// What is the matter.
    #[must_use]
    pub fn problem(&self) -> &ConnectProblem {
        &self.0.problem
    }

    /// The address that was tried.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.0.peer
    }

    /// Whether there is no service at the address: its socket does not exist, or refuses.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        matches!(&self.0.problem, ConnectProblem::Io(error) if matches!(error.kind(), NotFound | ConnectionRefused))
    }

    /// The error by which the service refused the client, if it did.
    #[must_use]
    pub fn refusal(&self) -> Option<&Error> {
        match &self.0.problem {
            ConnectProblem::Refused(error) => Some(error),
            ConnectProblem::Closed(reason) => reason.announced(),
            _ => None,
        }
    }

    /// Whether another attempt may go better although nobody does anything about it.
    pub(crate) fn may_pass(&self) -> bool {
        match &self.0.problem {
            ConnectProblem::Io(error) => !self.is_absent() && error.kind() != io::ErrorKind::PermissionDenied,
            ConnectProblem::Closed(reason) => reason.announced().is_none_or(may_pass),
            ConnectProblem::Refused(error) => may_pass(error),
            ConnectProblem::Timeout(_) => true,
            _ => false,
        }
    }
}

fn may_pass(error: &Error) -> bool {
    error.retryable() || *error.code() == Code::SHUTTING_DOWN
}

impl fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { peer, problem } = &*self.0;
        match problem {
            // These name the address themselves.
            ConnectProblem::Location(error) => return error.fmt(f),
            ConnectProblem::Closed(reason) => {
                write!(f, "no connection: {reason}, before it had answered the greeting")?;
                return match reason.announced() {
                    Some(_) => Ok(()),
                    None => f.write_str("; is this the address of a Postroom service? If so, its log may say why"),
                };
            }
            _ => write!(f, "no connection to {peer}: ")?,
        }
        match problem {
            ConnectProblem::Location(_) | ConnectProblem::Closed(_) => Ok(()),
            ConnectProblem::UnknownLocal(known) if known.is_empty() => {
                f.write_str("no local service is known here; give it to a `Connector` and connect through that")
            }
            ConnectProblem::UnknownLocal(known) => {
                write!(f, "this connector has no such service; it has: {}", known.join(", "))
            }
            ConnectProblem::Io(error) => {
                write!(f, "{error}")?;
                f.write_str(match error.kind() {
                    io::ErrorKind::NotFound => "; is the service running, and is this its socket?",
                    io::ErrorKind::ConnectionRefused => "; nothing listens there: is the service running?",
                    io::ErrorKind::PermissionDenied => {
                        "; this user may not use the socket: look at its mode and group, \
                         and at those of the folders above it"
                    }
                    _ => "",
                })
            }
            ConnectProblem::Refused(error) => write!(f, "the service refused: {error}"),
            ConnectProblem::NotPostroom(how) => {
                write!(f, "what listens there is no Postroom service: {how}; check the address")
            }
            ConnectProblem::Timeout(timeout) => write!(
                f,
                "no answer to the greeting within {timeout:?}; the service hangs, or it is something else than Postroom"
            ),
            ConnectProblem::NoRuntime => f.write_str(
                "there is no tokio runtime here; call it within one, or use `postroom_client::blocking::Client`",
            ),
            ConnectProblem::NoThread(error) => write!(f, "the client's thread could not be started: {error}"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.problem {
            ConnectProblem::Location(error) => Some(error),
            ConnectProblem::Io(error) | ConnectProblem::NoThread(error) => Some(error),
            ConnectProblem::Closed(reason) => Some(reason),
            ConnectProblem::Refused(error) => Some(error),
            _ => None,
        }
    }
}
