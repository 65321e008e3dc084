//! A descriptor kept in reserve, for the moment when there is no other.
//!
//! Without it a service that is out of descriptors cannot even accept a connection to tell it so, and newcomers hang.

use std::fs::File;
use std::os::fd::OwnedFd;

/// Holds one descriptor, as long as it could get one.
#[derive(Debug)]
pub(crate) struct Reserve(Option<OwnedFd>);

impl Reserve {
    pub(crate) fn new() -> Self {
        Self(take())
    }

    /// Runs `body` with one descriptor free, and takes the reserve back.
    pub(crate) fn lend<R>(&mut self, body: impl FnOnce() -> R) -> R {
        self.0 = None;
        let result = body();
        self.0 = take();
        result
    }
}

fn take() -> Option<OwnedFd> {
    File::open("/dev/null").ok().map(OwnedFd::from)
}
