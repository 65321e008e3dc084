//! Readers: the task of one client, on an I/O arbiter.
//!
//! A [`Reader`] reads its socket until it would block, has its [`Client`] split what came, and writes
//! what is ready. What a packet or a message means is decided in [`client`], what goes out lies in [`output`], the socket is in
//! [`socket`]. It runs no handler and decodes no arguments. Replies come to it through its [`Hub`](crate::hub), which
//! shares the [`Connection`] with it: they are of one thread. It is no actor, because nobody sends it a message: a mailbox
//! would be looked into each time that something comes, and be a fifth of what an idle client costs.

pub(crate) mod client;
pub(crate) mod deadlines;
pub(crate) mod output;
mod socket;

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::MutexGuard;
use std::task::{self, Poll, Waker};

use bytes::Bytes;

use crate::hub::core::HubCore;
use crate::hub::line::{End, Line};
use crate::job::ClientKey;
use crate::listener::census::Place;
use crate::reply::Sent;
use crate::runs::{Run, RunBytes};
use crate::stats::block::State;
use crate::time::Instant;
use client::{Client, Next, Wants};
pub(crate) use socket::{Socket, Stream};

/// How many reads a client gets before the others of its arbiter get theirs.
const READS_PER_TURN: usize = 4;

/// The task of one client.
#[derive(Debug)]
pub(crate) struct Reader {
    connection: Rc<RefCell<Connection>>,
    hub: Rc<HubCore>,
    key: ClientKey,
    /// This client's place among `max_clients`.
    _place: Place,
}

/// A client's socket and state, shared by its reader and the hub.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    socket: Socket,
    /// Wakes the reader.
    waker: Option<Waker>,
    /// Whether the socket has refused bytes: only the reader writes then, when it is woken for it.
    blocked: bool,
    /// Whether another thread writes: what there is to write waits until it has reported.
    is_others: bool,
    /// Whether workers were told to report at once.
    presses: bool,
    /// Whether nobody has the socket any more, after the client has left.
    is_let_go: bool,
    /// Whether the output begins with the rest of what another thread has written in part.
    has_rest: bool,
    /// Whether the reader has stopped reading, and has to be woken when that ends.
    paused: bool,
    /// This client's entry among the deadlines of the arbiter.
    entered: Option<Instant>,
    /// Whether the hub is to come back for its events.
    pub(crate) is_listed: bool,
    /// As what it is counted.
    counted: Option<State>,
}

impl Reader {
    pub(crate) fn new(connection: Rc<RefCell<Connection>>, hub: Rc<HubCore>, key: ClientKey, place: Place) -> Self {
        Self { connection, hub, key, _place: place }
    }
}

/// Reads and writes for as long as the client is there.
impl Future for Reader {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<()> {
        let Self { connection, hub, key, .. } = &*self;
        if connection.borrow().client.is_starved() {
            // A call that its client sends when it has read a reply is not to wait for that one.
            hub.collect(Instant::now());
        }
        hub.read(*key, || connection.borrow_mut().poll(*key, hub, task))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // However the reader ended, its client is gone.
        if let Ok(connection) = self.connection.try_borrow() {
            self.hub.stats().client(connection.counted, None);
        }
        self.hub.forget(self.key);
    }
}

impl Connection {
    pub(crate) fn new(client: Client, socket: Socket) -> Self {
        Self {
            client,
            socket,
            waker: None,
            blocked: false,
            is_others: false,
            presses: false,
            is_let_go: false,
            has_rest: false,
            paused: false,
            entered: None,
            is_listed: false,
            counted: None,
        }
    }

    /// Reads and writes what can be read and written. Ready when the connection has ended.
    fn poll(&mut self, key: ClientKey, hub: &Rc<HubCore>, task: &mut task::Context<'_>) -> Poll<()> {
        if self.waker.as_ref().is_none_or(|waker| !waker.will_wake(task.waker())) {
            self.waker = Some(task.waker().clone());
        }
        self.blocked = false;
        // Whoever else changes anything settles it then.
        let mut is_settled = self.client.output.is_empty() && self.counted.is_some();
        // One look at the clock for each read, and one before it where there is something to do at that time.
        let mut seen = None;
        if !is_settled {
            let now = *seen.insert(Instant::now());
            self.write_with(hub.line(key), now, |socket, pieces| socket.poll_write(task, pieces));
        }
        self.paused = false;
        for _ in 0..READS_PER_TURN {
            if !std::mem::take(&mut is_settled) {
                self.settle(key, hub, *seen.get_or_insert_with(Instant::now));
            }
            let read = match self.client.wants() {
                Wants::Nothing => break,
                Wants::Input => self.read(key, hub, task, &mut seen),
                Wants::Discard => self.discard(hub, task, &mut seen),
            };
            match read {
                Poll::Pending => return self.end(),
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => self.client.end_of_input(),
                Poll::Ready(Err(error)) => {
                    log::debug!(client = self.client.peer().client_id(); "disconnected: {error}");
                    self.client.broken();
                }
            }
        }
        self.settle(key, hub, seen.unwrap_or_else(Instant::now));
        if self.client.wants() == Wants::Nothing {
            self.paused = true;
            // Nobody reads, and nobody writes if there is nothing to write: only the socket tells of a client that leaves.
            if self.client.output.is_empty() && !self.client.is_gone() && self.socket.poll_hang_up(task).is_ready() {
                log::debug!(client = self.client.peer().client_id(); "disconnected");
                self.client.broken();
                self.settle(key, hub, Instant::now());
            }
        } else {
            // There may be more to read; the other clients of this arbiter come first.
            task.waker().wake_by_ref();
        }
        self.end()
    }

    fn end(&self) -> Poll<()> {
        if self.client.is_done() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Reads once and has the client split it, and the clock was `seen` then. False at the end of input.
    fn read(
        &mut self,
        key: ClientKey,
        hub: &Rc<HubCore>,
        task: &mut task::Context<'_>,
        seen: &mut Option<Instant>,
    ) -> Poll<io::Result<bool>> {
        let mut sink = hub.sink(key, *self.client.peer());
        if let Some(room) = self.client.room() {
            let read = task::ready!(self.socket.poll_read(task, room))?;
            let now = *seen.insert(Instant::now());
            self.client.filled(read.bytes, read.fds, now, &mut sink);
            return Poll::Ready(Ok(read.bytes > 0));
        }
        let mut buffer = hub.buffer.borrow_mut();
        let read = task::ready!(self.socket.poll_read(task, &mut buffer))?;
        let now = *seen.insert(Instant::now());
        self.client.feed(&buffer[..read.bytes], read.fds, now, &mut sink);
        Poll::Ready(Ok(read.bytes > 0))
    }

    fn discard(
        &mut self,
        hub: &Rc<HubCore>,
        task: &mut task::Context<'_>,
        seen: &mut Option<Instant>,
    ) -> Poll<io::Result<bool>> {
        let read = task::ready!(self.socket.poll_read(task, &mut hub.buffer.borrow_mut()))?;
        *seen = Some(Instant::now());
        Poll::Ready(Ok(read.bytes > 0))
    }

    /// Replies of this client were written by the thread that ran their calls, up to so many bytes.
    pub(crate) fn sent(&mut self, sent: Sent, line: Option<&Line>, now: Instant) {
        let Sent { client, bytes, written, replies, cost, .. } = sent;
        self.is_others = false;
        if written == bytes.len() || self.client.is_gone() {
            return self.client.answered_and_left(replies, cost, now);
        }
        let bytes = RunBytes::Held(bytes);
        if written == 0 {
            return self.deliver(Run { client, bytes, replies, cost }, line, now);
        }
        self.has_rest = true;
        self.client.answered_in_part(bytes.rest(written), replies, cost, now);
    }

    /// The line, for the hub to write, unless somebody else writes or has written a packet in part. What there is to
    /// write is looked at again when that is reported.
    fn own<'a>(&mut self, line: Option<&'a Line>) -> Option<MutexGuard<'a, End>> {
        let mut end = line.and_then(Line::take);
        if let Some(taken) = &mut end
            && taken.rest_follows
        {
            if self.has_rest {
                (self.has_rest, taken.rest_follows) = (false, false);
            } else {
                end = None;
            }
        }
        self.is_others = end.is_none();
        end
    }

    /// Replies of this client are there: they leave at once if they can.
    pub(crate) fn deliver(&mut self, run: Run<'_>, line: Option<&Line>, now: Instant) {
        let Run { client: _, bytes, replies, cost } = run;
        // A notification has no bytes to write.
        if self.client.is_gone() || bytes.is_empty() {
            return self.client.answered_and_left(replies, cost, now);
        }
        log::trace!(client = self.client.peer().client_id(); "the hub writes {replies} replies, {} bytes", bytes.len());
        let end = if self.client.output.is_empty() { self.own(line) } else { None };
        let Some(mut end) = end else {
            return self.client.answered(bytes.rest(0), replies, cost, now);
        };
        match self.socket.write(&bytes) {
            Ok(written) if written == bytes.len() => self.client.answered_and_left(replies, cost, now),
            Ok(written) => {
                end.waits = true;
                self.wait(bytes.rest(written), replies, cost, now);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                end.waits = true;
                self.wait(bytes.rest(0), replies, cost, now);
            }
            Err(_) => {
                self.client.answered_and_left(replies, cost, now);
                self.client.broken();
            }
        }
    }

    /// Keeps what the socket did not take.
    fn wait(&mut self, rest: Bytes, replies: usize, cost: u64, now: Instant) {
        self.client.answered(rest, replies, cost, now);
        self.blocked = true;
        self.wake();
    }

    /// Does what follows from the client's state: starts what may start, writes, tells, ends, sets its deadline.
    pub(crate) fn settle(&mut self, key: ClientKey, hub: &Rc<HubCore>, now: Instant) {
        // So it is with most clients most of the time.
        let is_quiet = self.client.is_quiet() && !self.paused && !self.presses;
        if !is_quiet {
            self.follow(key, hub, now);
        }
        let state = Some(self.client.state());
        if state != self.counted {
            hub.stats().client(self.counted, state);
            self.counted = state;
        }
        if let Some(deadline) = self.client.deadline()
            && self.entered.is_none_or(|entered| deadline < entered)
        {
            hub.enter_deadline(key, deadline, &mut self.entered);
        }
    }

    /// The part of it that is nothing for a client that is quiet.
    fn follow(&mut self, key: ClientKey, hub: &Rc<HubCore>, now: Instant) {
        let mut sink = hub.sink(key, *self.client.peer());
        // A portion of them, the rest when the others of this arbiter had theirs.
        if self.client.has_events() {
            self.send_events(hub.line(key), now);
        }
        loop {
            if self.client.is_broken() {
                self.client.disconnect(now, &mut sink);
                self.socket = Socket::Closed;
            }
            if self.client.is_gone() && !self.is_let_go {
                self.is_let_go = hub.close_line(key);
            }
            // What has left makes room for what waits, and that may have something to say at once.
            self.client.pump(now, &mut sink);
            if self.has_to_write() {
                self.write(hub.line(key), now);
                continue;
            }
            match self.client.next(now) {
                Next::Go if self.has_to_write() || self.client.is_broken() => {}
                Next::Go => break,
                Next::ShutDown => self.socket.shut_down(),
                Next::Done => {
                    self.wake();
                    break;
                }
            }
        }
        if self.paused && self.client.wants() != Wants::Nothing {
            self.wake();
        }
        let presses = self.client.presses();
        if presses != self.presses
            && let Some(mut end) = hub.line(key).and_then(Line::take)
        {
            (self.presses, end.presses) = (presses, presses);
        }
        if !self.blocked && !self.is_others {
            self.list(key, hub, false);
        }
    }

    /// Moves events into the output. From here until they are written no worker writes: nothing of a subscription may
    /// come behind the reply that says that it has ended.
    fn send_events(&mut self, line: Option<&Line>, now: Instant) {
        if let Some(mut end) = self.own(line) {
            self.client.send_events(now);
            end.waits = !self.client.output.is_empty();
        }
    }

    /// Has the hub come back to this client, once, if there are events for it, or if anything else `follows`.
    pub(crate) fn list(&mut self, key: ClientKey, hub: &HubCore, follows: bool) {
        if !self.is_listed && (follows || self.client.has_events()) {
            self.is_listed = true;
            hub.list_events(key);
        }
    }

    fn has_to_write(&self) -> bool {
        !self.blocked && !self.is_others && !self.client.output.is_empty() && !self.client.is_gone()
    }

    /// Its entry among the deadlines has come up.
    pub(crate) fn expire(&mut self, key: ClientKey, hub: &Rc<HubCore>, entry: Instant, now: Instant) {
        if self.entered == Some(entry) {
            self.entered = None;
        }
        self.client.expire(now);
        self.settle(key, hub, now);
    }

    /// Writes what the socket takes now. What it refuses is left to the reader, which is woken for it.
    fn write(&mut self, line: Option<&Line>, now: Instant) {
        self.write_with(line, now, |socket, pieces| match socket.write_vectored(pieces) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result),
        });
        if self.blocked {
            self.wake();
        }
    }

    fn write_with(
        &mut self,
        line: Option<&Line>,
        now: Instant,
        mut write: impl FnMut(&mut Socket, &[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) {
        if self.client.output.is_empty() {
            return;
        }
        let Some(mut end) = self.own(line) else { return };
        while !self.client.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); output::PIECES];
            let count = self.client.output.slices(&mut slices);
            match write(&mut self.socket, &slices[..count]) {
                Poll::Ready(Ok(written)) => self.client.wrote(written, now),
                Poll::Ready(Err(_)) => return self.client.broken(),
                Poll::Pending => {
                    self.blocked = true;
                    end.waits = true;
                    return;
                }
            }
        }
        end.waits = false;
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}
