//! Faults on the line between a client and a service in memory.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use postroom_client::{Duplex, LocalService};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// What is wrong with a line. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Every portion that comes from the service comes so much later.
    pub delay: Duration,
    /// No portion, either way, is longer than this; 0 is no bound.
    pub split: usize,
    /// After so many bytes from the client the line is cut, for both sides. `None`: never.
    pub cut_after_sent: Option<usize>,
    /// After so many bytes from the service the line is cut, for both sides. `None`: never.
    pub cut_after_received: Option<usize>,
}

/// The same service behind a bad line: each connection has these faults.
pub fn faulty(service: Arc<dyn LocalService>, faults: Faults) -> Arc<dyn LocalService> {
    Arc::new(Behind { service, faults })
}

struct Behind {
    service: Arc<dyn LocalService>,
    faults: Faults,
}

impl LocalService for Behind {
    fn open(&self) -> io::Result<Box<dyn Duplex>> {
        let Faults { delay, split, cut_after_sent, cut_after_received } = self.faults;
        Ok(Box::new(Line {
            stream: Some(self.service.open()?),
            delay,
            split: if split == 0 { usize::MAX } else { split },
            left_to_send: cut_after_sent.unwrap_or(usize::MAX),
            left_to_receive: cut_after_received.unwrap_or(usize::MAX),
            waiting: None,
            delayed: Vec::new(),
        }))
    }
}

/// A stream with faults.
struct Line {
    /// Dropped when the line is cut, so that the service sees it too.
    stream: Option<Box<dyn Duplex>>,
    delay: Duration,
    split: usize,
    left_to_send: usize,
    left_to_receive: usize,
    /// Until when the bytes in `delayed` are on their way.
    waiting: Option<Pin<Box<Sleep>>>,
    delayed: Vec<u8>,
}

impl Line {
    fn cut(&mut self) -> io::Error {
        self.stream = None;
        io::Error::new(io::ErrorKind::ConnectionReset, "the line was cut by a test")
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(waiting) = &mut this.waiting {
            ready!(waiting.as_mut().poll(task));
            this.waiting = None;
        }
        if !this.delayed.is_empty() {
            let count = this.delayed.len().min(buffer.remaining());
            buffer.put_slice(&this.delayed[..count]);
            this.delayed.drain(..count);
            return Poll::Ready(Ok(()));
        }
        if this.left_to_receive == 0 {
            return Poll::Ready(Err(this.cut()));
        }
        let Some(stream) = &mut this.stream else { return Poll::Ready(Err(this.cut())) };
        let most = buffer.remaining().min(this.split).min(this.left_to_receive);
        let mut portion = vec![0; most];
        let mut portion = ReadBuf::new(&mut portion);
        ready!(Pin::new(stream).poll_read(task, &mut portion))?;
        let came = portion.filled();
        this.left_to_receive -= if this.left_to_receive == usize::MAX { 0 } else { came.len() };
        if this.delay.is_zero() || came.is_empty() {
            buffer.put_slice(came);
            return Poll::Ready(Ok(()));
        }
        this.delayed = came.to_vec();
        this.waiting = Some(Box::pin(sleep(this.delay)));
        // Polled once more at once, so that the timer knows whom to wake.
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.left_to_send == 0 {
            return Poll::Ready(Err(this.cut()));
        }
        let Some(stream) = &mut this.stream else { return Poll::Ready(Err(this.cut())) };
        let most = bytes.len().min(this.split).min(this.left_to_send);
        let written = ready!(Pin::new(stream).poll_write(task, &bytes[..most]))?;
        this.left_to_send -= if this.left_to_send == usize::MAX { 0 } else { written };
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Some(stream) => Pin::new(stream).poll_flush(task),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Some(stream) => Pin::new(stream).poll_shutdown(task),
            None => Poll::Ready(Ok(())),
        }
    }
}
