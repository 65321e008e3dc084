//! Watching a descriptor with the arbiter's reactor: unsafe code, beside that of the event loop's poller the only one of
//! this crate.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the reactor of the arbiter that this runs on.
pub(crate) fn watch(fd: Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the reactor asks that the descriptor stays open and the same for as long as it is registered. An
    // `OwnedFd` is closed only when it is dropped, the last reference to it is dropped at the earliest by `AsyncFd`
    // after it has deregistered it, and this crate never calls `get_mut` or `into_inner`, by which the reference could
    // be exchanged or taken out.
    let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
    watched.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_watched_socket_becomes_readable_and_is_closed_when_dropped() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        actix_rt::System::new().block_on(async move {
            ours.set_nonblocking(true).unwrap();
            let watched = watch(Arc::new(ours.into()), Interest::READABLE).unwrap();
            theirs.write_all(b"x").unwrap();
            drop(watched.readable().await.unwrap());
            drop(watched);
            assert_eq!(theirs.write_all(b"y").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        });
    }
}
