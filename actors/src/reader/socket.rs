//! A client's socket: non-blocking reads and writes, nothing else.
//!
//! Unix and TCP sockets differ in one thing here: a Unix socket can bring descriptors, which nobody takes yet, so they
//! are closed and counted. A connection inside the process is the same to its reader as a socket.
//!
//! A socket is watched for what can be read, and for room to write only from the first time on that it had none: the
//! kernel tells of room each time that the client has read a reply, and the arbiter would wake up for it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv,
    recvmsg, send, sendmsg, shutdown,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::local::LocalEnd;
use crate::watch::watch;

/// The most descriptors that the kernel sends with one byte.
const MAX_FDS_AT_ONCE: usize = 253;

/// A connected socket, registered with the arbiter's reactor, or a connection inside the process.
#[derive(Debug)]
pub(crate) enum Socket {
    Unix(Watched),
    Tcp(Watched),
    Local(LocalEnd),
    /// The client has left: nothing comes and nothing goes.
    Closed,
}

/// A socket that is watched.
#[derive(Debug)]
pub(crate) struct Watched {
    fd: AsyncFd<Arc<OwnedFd>>,
    for_writing: bool,
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

impl Watched {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { fd: watch(Arc::new(fd), Interest::READABLE)?, for_writing: false })
    }

    /// The same socket, watched for room to write as well: anew, which tells again of all that is there.
    fn for_writing(self) -> io::Result<Self> {
        let shared = self.fd.get_ref().clone();
        drop(self.fd);
        Ok(Self { fd: watch(shared, Interest::READABLE | Interest::WRITABLE)?, for_writing: true })
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }
}

impl Socket {
    /// Takes over a connection; its socket, if it is one, is non-blocking already.
    pub(crate) fn new(stream: Stream) -> io::Result<Self> {
        Ok(match stream {
            Stream::Unix(fd) => Self::Unix(Watched::new(fd)?),
            Stream::Tcp(fd) => Self::Tcp(Watched::new(fd)?),
            Stream::Local(end) => Self::Local(end),
        })
    }

    /// The socket, for others to write to as well; none for a connection inside the process.
    pub(crate) fn share(&self) -> Option<Arc<OwnedFd>> {
        match self {
            Self::Unix(watched) | Self::Tcp(watched) => Some(watched.fd.get_ref().clone()),
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
            let mut guard = ready!(fd.fd.poll_read_ready(task))?;
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

    /// Writes what is taken; pending, and woken later, when nothing is. Whoever waits for input has to ask again after
    /// this.
    ///
    /// What the reactor knows is forgotten only after a write that was refused since it knew it: news that came
    /// between would be lost otherwise, and the client with them.
    pub(crate) fn poll_write(&mut self, task: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let written = self.write_vectored(pieces);
            if !matches!(&written, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                return Poll::Ready(written);
            }
            self.watch_for_room()?;
            match &*self {
                // Room that came since is news.
                Self::Unix(watched) | Self::Tcp(watched) => {
                    let mut guard = ready!(watched.fd.poll_write_ready(task))?;
                    let written = self.write_vectored(pieces);
                    if !matches!(&written, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                        return Poll::Ready(written);
                    }
                    guard.clear_ready();
                }
                Self::Local(end) => ready!(end.poll_writable(task))?,
                Self::Closed => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }

    /// Has the kernel tell of room to write from now on.
    fn watch_for_room(&mut self) -> io::Result<()> {
        *self = match std::mem::replace(self, Self::Closed) {
            Self::Unix(watched) if !watched.for_writing => Self::Unix(watched.for_writing()?),
            Self::Tcp(watched) if !watched.for_writing => Self::Tcp(watched.for_writing()?),
            same => same,
        };
        Ok(())
    }

    /// Ready when the client has left altogether: not when it only has ended its input. TCP cannot tell the two apart.
    ///
    /// Only to be called while there is nothing to write, and nobody waits for input: it takes the news that the socket
    /// can be written to, and a write that the socket refuses later makes new ones.
    pub(crate) fn poll_hang_up(&mut self, task: &mut Context<'_>) -> Poll<()> {
        if self.watch_for_room().is_err() {
            return Poll::Ready(());
        }
        let fd = match self {
            Self::Unix(watched) | Self::Tcp(watched) => &watched.fd,
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

fn receive_with_fds(fd: &Watched, buffer: &mut [u8]) -> rustix::io::Result<Read> {
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn is_watched_for_room(socket: &Socket) -> bool {
        let (Socket::Unix(watched) | Socket::Tcp(watched)) = socket else { panic!("{socket:?}") };
        watched.for_writing
    }

    #[test]
    fn room_to_write_is_watched_from_the_first_time_on_that_there_was_none_and_input_all_the_time() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        actix_rt::System::new().block_on(async move {
            let mut socket = Socket::new(Stream::Unix(ours.into())).unwrap();
            let piece = vec![7; 4 << 20];
            let wrote = poll_fn(|task| socket.poll_write(task, &[IoSlice::new(b"small")])).await.unwrap();
            assert!(wrote == 5 && !is_watched_for_room(&socket));
            let mut written = 0;
            let full = poll_fn(|task| {
                loop {
                    match socket.poll_write(task, &[IoSlice::new(&piece[written..])]) {
                        Poll::Ready(wrote) => written += wrote.unwrap(),
                        Poll::Pending => break Poll::Ready(written),
                    }
                }
            })
            .await;
            assert!(full < piece.len() && is_watched_for_room(&socket));
            let reads = std::thread::spawn(move || {
                let mut got = vec![0; 5 + (4 << 20)];
                theirs.read_exact(&mut got).unwrap();
                theirs.write_all(b"done").unwrap();
                theirs
            });
            while written < piece.len() {
                written += poll_fn(|task| socket.poll_write(task, &[IoSlice::new(&piece[written..])])).await.unwrap();
            }
            let mut answer = [0; 16];
            let read = poll_fn(|task| socket.poll_read(task, &mut answer)).await.unwrap();
            assert_eq!(&answer[..read.bytes], b"done");
            drop(reads.join().unwrap());
            poll_fn(|task| socket.poll_hang_up(task)).await;
        });
    }
}
