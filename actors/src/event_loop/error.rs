//! Why an operation of the event loop was refused.

use std::os::fd::RawFd;
use std::{error, fmt, io};

use super::id::{HandleId, TimerId};

/// Why an operation was refused. A refused operation has changed nothing, except that [`LoopError::NotOpen`] disables
/// the watches on that descriptor.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoopError {
    /// The loop has ended: its driver is gone.
    Ended,
    /// No such watch: it was never there, was removed, or was lost to a panic of its callback.
    UnknownHandle(HandleId),
    /// No such timer: it was never there, was removed, or was lost to a panic of its callback.
    UnknownTimer(TimerId),
    /// The number is not that of an open descriptor.
    NotOpen(RawFd),
    /// The kernel refuses to watch this descriptor, for example because it is over a limit on watches.
    Refused {
        /// The descriptor.
        fd: RawFd,
        /// What the kernel said.
        source: io::Error,
    },
    /// There are 2³² watches already.
    Full,
}

impl fmt::Display for LoopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoopError::Ended => f.write_str("the event loop has ended"),
            LoopError::UnknownHandle(id) => write!(f, "there is no {id} in the event loop"),
            LoopError::UnknownTimer(id) => write!(f, "there is no {id} in the event loop"),
            LoopError::NotOpen(fd) => write!(f, "descriptor {fd} is not open"),
            LoopError::Refused { fd, source } => write!(f, "descriptor {fd} cannot be watched: {source}"),
            LoopError::Full => f.write_str("the event loop holds as many watches as it can count"),
        }
    }
}

impl error::Error for LoopError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            LoopError::Refused { source, .. } => Some(source),
            _ => None,
        }
    }
}
