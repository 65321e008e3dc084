//! One connection, from the greeting to its end: writes what callers put in, reads, hands out replies.
//!
//! The driver polls it; callers only wake it when it sleeps. In one turn it writes everything that has collected, in
//! one write if the socket takes it, then reads once and completes all calls that were answered under one lock.
//! Callers that run meanwhile on the same thread are all through before it runs again, so their calls leave together.

mod incoming;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use postroom_protocol::{Splitter, keepalive};
use tokio::time::Sleep;

use super::greeting::Greeting;
use super::heartbeat::{Beat, Heartbeat};
use super::stream::Stream;
use crate::error::{CallError, CloseCause, CloseReason};
use crate::exchange::{Closing, Link};
use crate::settings::Settings;

/// The read buffer starts small, for clients that say little, and doubles whenever a read fills it.
const MIN_INPUT: usize = 8 * 1024;
const MAX_INPUT: usize = 256 * 1024;

/// How long the end of what the peer has said is waited for when it takes nothing any more. It is there, or about to be:
/// only the runtime may not have seen it yet.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How many full reads in a row there are before other tasks get a turn.
const MAX_READS: usize = 4;

#[derive(Debug)]
pub(super) struct Conversation {
    peer: Arc<str>,
    stream: Stream,
    splitter: Splitter,
    max_reply: u32,
    pub(super) greeting: Greeting,
    heartbeat: Option<Heartbeat>,
    input: Vec<u8>,
    /// What is being written, and how much of it is.
    output: Vec<u8>,
    written: usize,
    /// How many bytes were written before `output`.
    sent: u64,
    /// Why the connection is over, if that was found while the greeting was still to be dealt with.
    pub(super) ended: Option<CloseReason>,
    /// Whether the output was left to grow in the last turn.
    collected: bool,
    /// Writing failed; the service may have said why before that, so it is waited for until then.
    write_error: Option<(io::Error, Pin<Box<Sleep>>)>,
    /// Always empty between turns; it only keeps its memory.
    wakers: Vec<Waker>,
}

impl Conversation {
    pub(super) fn new(peer: Arc<str>, stream: Stream, settings: &Settings) -> Self {
        Self {
            peer,
            stream,
            // Descriptors are not asked for, and could not be taken here.
            splitter: Splitter::new(settings.max_reply).without_fds(),
            max_reply: settings.max_reply,
            greeting: Greeting::new(),
            heartbeat: settings.keepalive.map(Heartbeat::new),
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            sent: 0,
            ended: None,
            collected: false,
            write_error: None,
            wakers: Vec::new(),
        }
    }

    /// How many bytes the socket has taken.
    pub(super) fn written(&self) -> u64 {
        self.sent + self.written as u64
    }

    /// Does all there is to do. Ready when the connection is at its end, and why.
    pub(super) fn poll(&mut self, link: &Link, context: &mut Context<'_>) -> Poll<CloseReason> {
        if let Some(reason) = self.ended.take() {
            return Poll::Ready(reason);
        }
        self.turn(link, context).map(|cause| CloseReason::new(self.peer.clone(), cause))
    }

    fn turn(&mut self, link: &Link, context: &mut Context<'_>) -> Poll<CloseCause> {
        if self.collects(link, context) {
            return Poll::Pending;
        }
        let mut n_reads = 0;
        loop {
            self.write(link, context);
            match self.read(link, context) {
                Poll::Ready(Err(cause)) => return Poll::Ready(cause),
                Poll::Ready(Ok(())) if n_reads < MAX_READS => {
                    n_reads += 1;
                    continue;
                }
                Poll::Ready(Ok(())) => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => {}
            }
            if let Some((_, patience)) = &mut self.write_error {
                ready!(patience.as_mut().poll(context));
                return Poll::Ready(self.write_failed(io::ErrorKind::BrokenPipe.into()));
            }
            if let Some(heartbeat) = &mut self.heartbeat
                && let Poll::Ready(beat) = heartbeat.poll(context)
            {
                match beat {
                    Beat::Ping => link.lock().push_control(&keepalive::ping()),
                    Beat::Dead { silence, pings } => {
                        return Poll::Ready(CloseCause::Keepalive { silence, pings });
                    }
                }
                self.shrink();
                continue;
            }
            if let Some(rest) = self.rest(link, context) {
                return rest;
            }
        }
    }

    /// Whether the output is left to grow for one turn of the runtime: where many calls are under way, more are about
    /// to be made by tasks that are ready now, and what would be two packets of bytes becomes one.
    fn collects(&mut self, link: &Link, context: &mut Context<'_>) -> bool {
        let is_due = self.written == self.output.len() && link.lock().is_busy();
        self.collected = is_due && !self.collected;
        if self.collected {
            // Polled once, it wakes this task when the others have had their turn.
            let _ = std::pin::pin!(tokio::task::yield_now()).poll(context);
        }
        self.collected
    }

    /// Goes to sleep, or ends because the client is being closed. Nothing if there is output to write first.
    fn rest(&mut self, link: &Link, context: &mut Context<'_>) -> Option<Poll<CloseCause>> {
        let flushed = self.written == self.output.len();
        let mut state = link.lock();
        if let Some(closing) = state.closing {
            let reason = CloseReason::new(self.peer.clone(), CloseCause::ClosedHere);
            state.fail_waiting(&CallError::Closed(reason));
            let over = match closing {
                Closing::Gently => flushed && state.is_idle(),
                // What the socket does not take at once is left: nobody waits for it.
                Closing::AtOnce => !flushed || state.has_no_output(),
            };
            if over {
                return Some(Poll::Ready(CloseCause::ClosedHere));
            }
        }
        let old = state.set_driver(context.waker());
        let parked = state.park(flushed);
        state.swap_wakers(&mut self.wakers);
        drop(state);
        drop(old);
        self.wake();
        parked.then_some(Poll::Pending)
    }

    /// Writes until there is nothing left or the socket takes no more.
    fn write(&mut self, link: &Link, context: &mut Context<'_>) {
        while self.write_error.is_none() {
            if self.written == self.output.len() {
                self.sent += self.written as u64;
                self.written = 0;
                self.output.clear();
                link.lock().take_output(&mut self.output);
                if self.output.is_empty() {
                    return;
                }
            }
            match self.stream.poll_write(context, &self.output[self.written..]) {
                Poll::Ready(Ok(0)) => self.keep(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => self.written += n,
                // The reason for the close may be there to be read, so that is what comes next.
                Poll::Ready(Err(error)) => self.keep(error),
                Poll::Pending => return,
            }
        }
    }

    /// Keeps why writing failed, until what was said before has been read.
    fn keep(&mut self, error: io::Error) {
        self.write_error = Some((error, Box::pin(tokio::time::sleep(LAST_WORDS))));
    }

    /// The connection is over because writing failed, or else for this reason.
    fn write_failed(&mut self, or: io::Error) -> CloseCause {
        CloseCause::Io(self.write_error.take().map_or(or, |(error, _)| error))
    }

    /// Reads once and deals with it. An error is the end.
    fn read(&mut self, link: &Link, context: &mut Context<'_>) -> Poll<Result<(), CloseCause>> {
        // The body of a great packet is read to where it belongs.
        if let Some(room) = self.splitter.room() {
            let n = match self.stream.poll_read(context, room) {
                Poll::Ready(result) => self.received(result)?,
                Poll::Pending => return Poll::Pending,
            };
            self.splitter.filled(n);
            return Poll::Ready(self.take_in(link, &[]));
        }
        if self.input.is_empty() {
            self.input.resize(MIN_INPUT, 0);
        }
        let mut input = std::mem::take(&mut self.input);
        let result = match self.stream.poll_read(context, &mut input) {
            Poll::Ready(result) => Poll::Ready(self.received(result).and_then(|n| {
                self.greeting.saw(&input[..n]);
                let mut result = self.take_in(link, &input[..n]);
                if result.is_ok() && self.greeting.is_impossible(self.max_reply) {
                    result = Err(CloseCause::Protocol(self.greeting.sample()));
                }
                if n == input.len() && n < MAX_INPUT {
                    input.resize(n * 2, 0);
                }
                result
            })),
            Poll::Pending => Poll::Pending,
        };
        self.input = input;
        result
    }

    /// What a read brought.
    fn received(&mut self, result: io::Result<usize>) -> Result<usize, CloseCause> {
        match result {
            Ok(0) if self.greeting.is_open() && self.splitter.is_mid_packet() => {
                Err(CloseCause::Protocol(self.greeting.sample()))
            }
            Ok(0) => match self.write_error.take() {
                Some((error, _)) => Err(CloseCause::Io(error)),
                None => Err(CloseCause::EndOfInput { mid_packet: self.splitter.is_mid_packet() }),
            },
            Ok(n) => {
                if let Some(heartbeat) = &mut self.heartbeat {
                    heartbeat.heard();
                }
                Ok(n)
            }
            Err(error) => Err(self.write_failed(error)),
        }
    }

    /// Wakes the callers whose calls are done. Not under the lock, since they may come straight back.
    #[inline]
    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    /// Nothing came for a while: the memory of the buffers is given back.
    fn shrink(&mut self) {
        self.input = Vec::new();
        self.wakers = Vec::new();
        if self.output.is_empty() {
            self.output = Vec::new();
        }
    }
}
