//! A descriptor kept in reserve, for the moment when there is no other.
//!
//! Without it a service that is out of descriptors cannot even accept a connection to tell it so, and newcomers hang.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

/// Holds one descriptor, unless another thread took it while it was lent: then it takes the next that is free.
#[derive(Debug)]
pub(crate) struct Reserve(Option<OwnedFd>);

impl Reserve {
    /// Takes a descriptor.
    ///
    /// # Errors
    ///
    /// There is none left.
    pub(crate) fn new() -> io::Result<Self> {
        take().map(|taken| Self(Some(taken)))
    }

    /// Takes a descriptor again, if it was lost and one is free.
    pub(crate) fn refill(&mut self) {
        if self.0.is_none() {
            self.0 = take().ok();
        }
    }

    /// Runs `body` with one descriptor free, and takes the reserve back.
    pub(crate) fn lend<R>(&mut self, body: impl FnOnce() -> R) -> R {
        self.0 = None;
        let result = body();
        self.0 = take().ok();
        result
    }
}

fn take() -> io::Result<OwnedFd> {
    File::open("/dev/null").map(OwnedFd::from)
}
