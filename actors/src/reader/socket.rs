//! A client's socket: non-blocking reads and writes, nothing else.
//!
//! Unix and TCP sockets differ in one thing here: a Unix socket can bring descriptors, which nobody takes yet, so they
//! are closed and counted. A connection inside the process is the same to its reader as a socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv,
    recvmsg, send, sendmsg, shutdown,
};
use tokio::io::unix::AsyncFd;

use crate::local::LocalEnd;
use crate::watch::watch;

/// The most descriptors that the kernel sends with one byte.
const MAX_FDS_AT_ONCE: usize = 253;

/// A connected socket, registered with the arbiter's reactor, or a connection inside the process.
#[derive(Debug)]
pub(crate) enum Socket {
    Unix(AsyncFd<Arc<OwnedFd>>),
    Tcp(AsyncFd<Arc<OwnedFd>>),
    Local(LocalEnd),
    /// The client has left: nothing comes and nothing goes.
    Closed,
}

/// A new connection, on its way to its reader.
#[derive(Debug)]
pub(crate) enum Stream {
    Unix(OwnedFd),
    Tcp(OwnedFd),
    Local(LocalEnd),
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
    /// Takes over a connection; its socket, if it is one, is non-blocking already.
    pub(crate) fn new(stream: Stream) -> io::Result<Self> {
        Ok(match stream {
            Stream::Unix(fd) => Self::Unix(watch(Arc::new(fd))?),
            Stream::Tcp(fd) => Self::Tcp(watch(Arc::new(fd))?),
            Stream::Local(end) => Self::Local(end),
        })
    }

    /// The socket, for others to write to as well; none for a connection inside the process.
    pub(crate) fn share(&self) -> Option<Arc<OwnedFd>> {
        match self {
            Self::Unix(fd) | Self::Tcp(fd) => Some(fd.get_ref().clone()),
            Self::Local(_) | Self::Closed => None,
        }
    }

    /// Reads what is there, at most `buffer`.
    ///
    /// A read that does not fill the buffer has emptied the socket, so the next one waits for news from the kernel
    /// instead of asking it in vain.
    pub(crate) fn poll_read(&self, task: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<Read>> {
        let fd = match self {
            Self::Unix(fd) | Self::Tcp(fd) => fd,
            Self::Local(end) => return end.poll_read(task, buffer).map_ok(|bytes| Read { bytes, fds: 0 }),
            Self::Closed => return Poll::Pending,
        };
        loop {
            let mut guard = ready!(fd.poll_read_ready(task))?;
            let read = match self {
                Self::Unix(fd) => receive_with_fds(fd, buffer),
                _ => recv(fd, &mut *buffer, RecvFlags::empty()).map(|(bytes, _)| Read { bytes, fds: 0 }),
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

    /// Writes what is taken, now. `WouldBlock` when nothing is.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let (Self::Unix(fd) | Self::Tcp(fd)) = self else { return self.write_vectored(&[IoSlice::new(bytes)]) };
        loop {
            match send(fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// The same for several pieces.
    pub(crate) fn write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let fd = match self {
            Self::Unix(fd) | Self::Tcp(fd) => fd,
            Self::Local(end) => return end.write(pieces.first().map_or(&[], |piece| piece)),
            Self::Closed => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        let mut none = SendAncillaryBuffer::default();
        loop {
            match sendmsg(fd, pieces, &mut none, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Writes what is taken; pending, and woken later, when nothing is.
    ///
    /// What the reactor knows is forgotten only after a write that was refused since it knew it: news that came
    /// between would be lost otherwise, and the client with them.
    pub(crate) fn poll_write(&self, task: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            match self {
                Self::Unix(fd) | Self::Tcp(fd) => {
                    let mut guard = ready!(fd.poll_write_ready(task))?;
                    match self.write_vectored(pieces) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                        result => return Poll::Ready(result),
                    }
                }
                Self::Local(end) => match self.write_vectored(pieces) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(end.poll_writable(task))?,
                    result => return Poll::Ready(result),
                },
                Self::Closed => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }

    /// Ready when the client has left altogether: not when it only has ended its input. TCP cannot tell the two apart.
    ///
    /// Only to be called while there is nothing to write: it takes the news that the socket can be written to, and a
    /// write that the socket refuses later makes new ones.
    pub(crate) fn poll_hang_up(&self, task: &mut Context<'_>) -> Poll<()> {
        let fd = match self {
            Self::Unix(fd) | Self::Tcp(fd) => fd,
            Self::Local(end) => return end.poll_abandoned(task),
            Self::Closed => return Poll::Pending,
        };
        loop {
            // An error of the reactor means that nothing more will be heard of this socket.
            let Ok(mut guard) = ready!(fd.poll_write_ready(task)) else { return Poll::Ready(()) };
            if guard.ready().is_write_closed() {
                return Poll::Ready(());
            }
            guard.clear_ready();
        }
    }

    /// Tells the client that nothing more comes.
    pub(crate) fn shut_down(&self) {
        match self {
            // An error means that the client is gone already, which the next read tells too.
            Self::Unix(fd) | Self::Tcp(fd) => {
                let _ = shutdown(fd, Shutdown::Write);
            }
            Self::Local(end) => end.shut_down(),
            Self::Closed => {}
        }
    }
}

fn receive_with_fds(fd: &AsyncFd<Arc<OwnedFd>>, buffer: &mut [u8]) -> rustix::io::Result<Read> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS_AT_ONCE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = recvmsg(fd, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let mut fds = 0;
    for received in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = received {
            // Dropping closes them.
            fds += received.map(drop).count();
        }
    }
    if fds == 0 && message.flags.contains(ReturnFlags::CTRUNC) {
        // One came, and this process had no descriptor left to take it: that is not the client's fault.
        fds = 1;
    }
    Ok(Read { bytes: message.bytes, fds })
}
