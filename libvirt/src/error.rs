//! Why a loop could not become libvirt's.

use std::{error, fmt};

/// Why a loop could not become libvirt's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// A loop of this process was registered before, by this crate.
    AlreadyRegistered,
    /// libvirt has another implementation, such as its own (`virEventRegisterDefaultImpl`).
    Occupied,
    /// The loop has ended: its driver is gone.
    Ended,
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RegisterError::AlreadyRegistered => {
                "an event loop is registered with libvirt already; that is once for the whole process and for good, \
                 so use that loop"
            }
            RegisterError::Occupied => {
                "libvirt has another event loop implementation already, which it never gives up; register this one \
                 before anything calls virEventRegisterImpl or virEventRegisterDefaultImpl"
            }
            RegisterError::Ended => "the event loop has ended; register one whose driver is still there",
        })
    }
}

impl error::Error for RegisterError {}
