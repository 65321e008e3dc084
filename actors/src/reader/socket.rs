//! A client's socket: non-blocking reads and writes, nothing else.
//!
//! Unix and TCP sockets differ in one thing here: a Unix socket can bring descriptors, which nobody takes yet, so they
//! are closed and counted.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, recvmsg,
    send, sendmsg, shutdown,
};
use tokio::io::unix::AsyncFd;

use crate::peer::Transport;
use crate::watch::watch;

/// The most descriptors that the kernel sends with one byte.
const MAX_FDS_AT_ONCE: usize = 253;

/// A connected socket, registered with the arbiter's reactor.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: AsyncFd<OwnedFd>,
    transport: Transport,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    /// So many bytes; none at the end of input.
    pub(crate) bytes: usize,
    /// How many descriptors came with the last of them.
    pub(crate) fds: usize,
}

impl Socket {
    /// Takes over a socket that is non-blocking already.
    pub(crate) fn new(fd: OwnedFd, transport: Transport) -> io::Result<Self> {
        Ok(Self { fd: watch(fd)?, transport })
    }

    /// Reads what is there, at most `buffer`.
    ///
    /// A read that does not fill the buffer has emptied the socket, so the next one waits for news from the kernel
    /// instead of asking it in vain.
    pub(crate) fn poll_read(&self, task: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<Read>> {
        loop {
            let mut guard = ready!(self.fd.poll_read_ready(task))?;
            let read = match self.transport {
                Transport::Unix => self.receive_with_fds(buffer),
                Transport::Tcp => {
                    recv(&self.fd, &mut *buffer, RecvFlags::empty()).map(|(bytes, _)| Read { bytes, fds: 0 })
                }
            };
            match read {
                Ok(read) => {
                    // A read that brought descriptors ends with them, whatever follows.
                    if read.bytes > 0 && read.bytes < buffer.len() && read.fds == 0 {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(read));
                }
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Writes what the kernel takes, now. `WouldBlock` when it takes nothing.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match send(&self.fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// The same for several pieces.
    pub(crate) fn write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut none = SendAncillaryBuffer::default();
        loop {
            match sendmsg(&self.fd, pieces, &mut none, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Waits until the kernel takes bytes again: to be called after a write that said `WouldBlock`.
    pub(crate) fn poll_writable(&self, task: &mut Context<'_>, blocked: bool) -> Poll<io::Result<()>> {
        let mut guard = ready!(self.fd.poll_write_ready(task))?;
        if !blocked {
            return Poll::Ready(Ok(()));
        }
        guard.clear_ready();
        self.fd.poll_write_ready(task).map_ok(|_| ())
    }

    /// Tells the client that nothing more comes.
    pub(crate) fn shut_down(&self) {
        // An error means that the client is gone already, which the next read tells too.
        let _ = shutdown(&self.fd, Shutdown::Write);
    }

    fn receive_with_fds(&self, buffer: &mut [u8]) -> rustix::io::Result<Read> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS_AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let message = recvmsg(&self.fd, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
        let mut fds = 0;
        for received in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = received {
                // Dropping closes them.
                fds += received.map(drop).count();
            }
        }
        Ok(Read { bytes: message.bytes, fds })
    }
}
