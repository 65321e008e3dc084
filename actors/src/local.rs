//! A connection inside the process: a pipe in memory in each direction, between a client and its reader.
//!
//! The client's end ([`LocalStream`]) is a byte stream for any tokio runtime; the service's end (`LocalEnd`) is what
//! a reader has in place of a socket. The bytes are the same packets as on a socket, so everything else is the same
//! too: limits, errors, order.
//!
//! Bound: [`CAPACITY`] bytes in each direction; beyond it the writer waits.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::listener::entrance::Entrance;
use crate::peer::{Credentials, Transport};
use crate::reader::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes are on their way in one direction at most: about what a Unix socket takes.
pub const CAPACITY: usize = 256 * 1024;

/// How much memory an empty pipe keeps, so that short calls one by one do not allocate.
const KEPT: usize = 1024;

/// The client's end of a connection inside the process.
///
/// Dropping it ends the connection. Shutting it down ends its input only: what was accepted is still answered.
#[derive(Debug)]
pub struct LocalStream {
    to_service: Writer,
    from_service: Reader,
}

/// The service's end.
#[derive(Debug)]
pub(crate) struct LocalEnd {
    reader: Reader,
    writer: Writer,
}

/// Opens connections to a service from inside its process; see [`Running::local`](crate::Running::local).
///
/// It can be cloned and sent anywhere. It does not keep the service alive.
#[derive(Clone, Debug)]
pub struct Local(Arc<Entrance>);

impl Local {
    pub(crate) fn new(entrance: Arc<Entrance>) -> Self {
        Self(entrance)
    }

    /// A new connection. Where the service refuses it (`max_clients`, say), the stream ends after the packet that says
    /// why, as on a socket.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` when the service has stopped.
    pub fn open(&self) -> io::Result<LocalStream> {
        if self.0.is_closed() {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the service has stopped"));
        }
        let (stream, end) = pair();
        let own = Credentials {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            pid: rustix::process::getpid().as_raw_pid(),
        };
        let entered = self.0.enter(Stream::Local(end), Transport::Local, Some(own), &"local");
        if let Err((Stream::Local(end), reason)) = entered {
            let mut packet = Vec::new();
            postroom_protocol::encode_announcement(&reason, &mut packet);
            // A new pipe has room for it.
            let _ = end.write(&packet);
        }
        Ok(stream)
    }
}

/// Both ends of a new connection.
pub(crate) fn pair() -> (LocalStream, LocalEnd) {
    let (to_service, reader) = pipe();
    let (writer, from_service) = pipe();
    (LocalStream { to_service, from_service }, LocalEnd { reader, writer })
}

impl LocalEnd {
    /// Reads what is there; 0 at the end of input.
    pub(crate) fn poll_read(&self, task: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.reader.poll(task, |bytes| take(bytes, buffer))
    }

    /// Writes what there is room for, now. `WouldBlock` when there is none.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    /// Ready when there is room.
    pub(crate) fn poll_writable(&self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.poll_writable(task)
    }

    /// Ready when the client's end was dropped.
    pub(crate) fn poll_abandoned(&self, task: &mut Context<'_>) -> Poll<()> {
        self.writer.poll_abandoned(task)
    }

    pub(crate) fn shut_down(&self) {
        self.writer.close();
    }
}

impl AsyncRead for LocalStream {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = self.from_service.poll(task, |bytes| {
            let count = take(bytes, buffer.initialize_unfilled());
            buffer.advance(count);
            count
        });
        read.map_ok(|_| ())
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.to_service.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
            std::task::ready!(self.to_service.poll_writable(task))?;
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to_service.close();
        Poll::Ready(Ok(()))
    }
}

/// Moves bytes from the front of `from`; how many.
fn take(from: &mut VecDeque<u8>, to: &mut [u8]) -> usize {
    // Reading from a deque is two copies at most, and does not fail.
    io::Read::read(from, to).unwrap_or(0)
}

#[derive(Debug)]
struct Writer(Arc<Mutex<Pipe>>);

#[derive(Debug)]
struct Reader(Arc<Mutex<Pipe>>);

/// Bytes in one direction.
#[derive(Debug, Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// No more will be written.
    is_closed: bool,
    /// Nobody will read any more.
    is_abandoned: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

fn pipe() -> (Writer, Reader) {
    let pipe = Arc::<Mutex<Pipe>>::default();
    (Writer(pipe.clone()), Reader(pipe))
}

fn lock(pipe: &Mutex<Pipe>) -> MutexGuard<'_, Pipe> {
    // No panic can come between two changes of a pipe.
    pipe.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Writer {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = lock(&self.0);
        if pipe.is_abandoned || pipe.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(CAPACITY - pipe.bytes.len());
        if count == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        pipe.bytes.extend(&bytes[..count]);
        let reader = pipe.reader.take();
        drop(pipe);
        wake(reader);
        Ok(count)
    }

    fn poll_writable(&self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = lock(&self.0);
        if pipe.is_abandoned || pipe.bytes.len() < CAPACITY {
            return Poll::Ready(Ok(()));
        }
        pipe.writer = Some(task.waker().clone());
        Poll::Pending
    }

    fn poll_abandoned(&self, task: &mut Context<'_>) -> Poll<()> {
        let mut pipe = lock(&self.0);
        if pipe.is_abandoned {
            return Poll::Ready(());
        }
        pipe.writer = Some(task.waker().clone());
        Poll::Pending
    }

    fn close(&self) {
        let mut pipe = lock(&self.0);
        pipe.is_closed = true;
        let reader = pipe.reader.take();
        drop(pipe);
        wake(reader);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Reader {
    fn poll(&self, task: &mut Context<'_>, take: impl FnOnce(&mut VecDeque<u8>) -> usize) -> Poll<io::Result<usize>> {
        let mut pipe = lock(&self.0);
        if pipe.bytes.is_empty() && !pipe.is_closed {
            pipe.reader = Some(task.waker().clone());
            return Poll::Pending;
        }
        let count = take(&mut pipe.bytes);
        if pipe.bytes.is_empty() && pipe.bytes.capacity() > KEPT {
            // An idle connection holds next to no memory.
            pipe.bytes = VecDeque::new();
        }
        let writer = pipe.writer.take();
        drop(pipe);
        wake(writer);
        Poll::Ready(Ok(count))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut pipe = lock(&self.0);
        pipe.is_abandoned = true;
        pipe.bytes = VecDeque::new();
        let writer = pipe.writer.take();
        drop(pipe);
        wake(writer);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn poll_read(end: &LocalEnd, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        end.poll_read(&mut Context::from_waker(Waker::noop()), buffer)
    }

    #[test]
    fn what_is_written_is_read_and_then_the_input_ends() {
        let (mut client, end) = pair();
        let mut task = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut client).poll_write(&mut task, b"abc").is_ready());
        let mut buffer = [0; 2];
        assert!(matches!(poll_read(&end, &mut buffer), Poll::Ready(Ok(2))));
        assert_eq!(&buffer, b"ab");
        assert!(matches!(poll_read(&end, &mut buffer), Poll::Ready(Ok(1))));
        assert!(poll_read(&end, &mut buffer).is_pending());
        assert!(Pin::new(&mut client).poll_shutdown(&mut task).is_ready());
        assert!(matches!(poll_read(&end, &mut buffer), Poll::Ready(Ok(0))));
        assert_eq!(end.write(b"still").unwrap(), 5);
    }

    #[test]
    fn a_full_pipe_holds_the_writer_until_the_reader_takes_something() {
        let (client, end) = pair();
        assert_eq!(end.write(&vec![0; CAPACITY + 1]).unwrap(), CAPACITY);
        assert_eq!(end.write(b"x").unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut task = Context::from_waker(Waker::noop());
        assert!(end.poll_writable(&mut task).is_pending());
        let mut buffer = [0; 10];
        let mut buffer = ReadBuf::new(&mut buffer);
        let mut client = client;
        assert!(Pin::new(&mut client).poll_read(&mut task, &mut buffer).is_ready());
        assert!(end.poll_writable(&mut task).is_ready());
        drop(client);
        assert_eq!(end.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
