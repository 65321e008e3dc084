//! The state of one client: plain code, without sockets, clock or actors.
//!
//! Bytes come in, calls go out to a [`Sink`], replies come back, packets go to the [`Output`]. It decides what starts,
//! what waits in the backlog, when the service stops reading, and when and how the connection ends:
//!
//! ```text
//! open ──input ended──────────► closing ──all answered, all left──► done
//!   └──the service closes it──► closing ──all answered──► announced ──all left──► lingering ──► done
//! ```
//!
//! Queues: the backlog (`max_client_backlog`, `max_client_backlog_bytes`), bytes that were read and not split while
//! the client is held (one read buffer), the output (`max_client_output`), calls in progress
//! (`max_client_requests`). At each bound the client is held; none of them is an error.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postroom_protocol::{
    Error, HEADER_LEN, Header, Metadata, PacketType, Payload, SplitError, Splitter, Status, Step, encode_announcement,
    encode_reply_error, keepalive, split_metadata,
};

use crate::limits::Limits;
use crate::peer::{Peer, Transport};
use crate::reader::output::Output;

/// How long the service goes on reading, and throwing away, what a client sends after its close was announced.
/// Closing a socket with unread input would take the announcement from the client.
const LINGER: Duration = Duration::from_secs(1);

/// Where accepted calls go, and what is known of procedures.
pub(crate) trait Sink {
    /// The procedure that a call is for, or what its client is told.
    fn find(&self, header: &Header) -> Result<u32, Error>;
    /// Starts a call. It will be answered.
    fn start(&mut self, call: Start<'_>);
}

/// A call that starts.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) header: Header,
    pub(crate) entry: u32,
    pub(crate) metadata: Option<Box<Metadata>>,
    pub(crate) arguments: Arguments<'a>,
    /// The length of its packet.
    pub(crate) cost: u32,
}

/// The bytes of a call's arguments: borrowed while they lie in the read buffer.
#[derive(Debug)]
pub(crate) enum Arguments<'a> {
    Borrowed(&'a [u8]),
    Owned(Bytes),
}

impl Arguments<'_> {
    fn into_owned(self) -> Bytes {
        match self {
            Self::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Self::Owned(bytes) => bytes,
        }
    }
}

/// What the reader is to do with the socket's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// Read and [`Client::feed`] it.
    Input,
    /// Read and throw away: the client is closed and may still be sending.
    Discard,
    /// Leave it where it is: the client is held, or has ended its input.
    Nothing,
}

/// What is to be done with the connection after something happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing special.
    Go,
    /// Everything has left: tell the client that no more comes, and go on.
    ShutDown,
    /// Drop the connection.
    Done,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    peer: Peer,
    limits: Rc<Limits>,
    splitter: Splitter,
    phase: Phase,
    /// Calls that started and whose reply has not left.
    in_progress: usize,
    /// The bytes of calls that started and are not answered.
    running_bytes: u64,
    backlog: VecDeque<Held>,
    backlog_bytes: u64,
    /// Bytes that were read while the client was held, with how many descriptors came at their end.
    unsplit: Option<(Box<[u8]>, usize)>,
    pub(crate) output: Output,
    /// When the first packet is due; none once it is there.
    first_packet_due: Option<Instant>,
    /// When the first byte of the packet came that is being assembled.
    packet_since: Option<Instant>,
    /// Whether nothing of this client was read when it was looked at last.
    is_held: bool,
    /// When a byte last left, or the output began to wait.
    written_at: Instant,
}

#[derive(Debug)]
enum Phase {
    Open,
    /// Nothing more is read. What was accepted is answered, then the reason is told if there is one.
    Closing(Option<Box<Error>>),
    /// The reason was told (it may still be on its way out).
    Announced,
    /// All has left. Input is thrown away until the client ends, or until then.
    Lingering(Instant),
    Done,
}

/// A call in the backlog.
#[derive(Debug)]
struct Held {
    header: Header,
    entry: u32,
    metadata: Option<Box<Metadata>>,
    arguments: Bytes,
    cost: u32,
}

impl Client {
    pub(crate) fn new(peer: Peer, limits: Rc<Limits>, now: Instant) -> Self {
        let splitter = match peer.transport() {
            Transport::Unix => Splitter::new(limits.max_packet),
            Transport::Tcp | Transport::Local => Splitter::new(limits.max_packet).without_fds(),
        };
        Self {
            peer,
            splitter,
            phase: Phase::Open,
            in_progress: 0,
            running_bytes: 0,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            unsplit: None,
            output: Output::default(),
            first_packet_due: Some(now + limits.first_packet_timeout),
            packet_since: None,
            is_held: false,
            written_at: now,
            limits,
        }
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What to do with the socket's input now.
    pub(crate) fn wants(&self) -> Wants {
        match self.phase {
            Phase::Open if self.is_full() => Wants::Nothing,
            Phase::Open => Wants::Input,
            Phase::Lingering(_) => Wants::Discard,
            Phase::Closing(_) | Phase::Announced | Phase::Done => Wants::Nothing,
        }
    }

    /// Room to read straight into a big packet; what was read is told by [`Self::filled`].
    pub(crate) fn room(&mut self) -> Option<&mut [u8]> {
        self.splitter.room()
    }

    /// So many bytes were read into [`Self::room`], with so many descriptors at their end.
    pub(crate) fn filled(&mut self, bytes: usize, fds: usize, now: Instant, sink: &mut impl Sink) {
        self.splitter.filled(bytes);
        self.feed(&[], fds, now, sink);
    }

    /// Takes what was read, and how many descriptors came with its last byte.
    pub(crate) fn feed(&mut self, input: &[u8], fds: usize, now: Instant, sink: &mut impl Sink) {
        if self.output.is_empty() {
            self.written_at = now;
        }
        let mut rest = input;
        while matches!(self.phase, Phase::Open) {
            if self.is_full() && !rest.is_empty() {
                self.unsplit = Some((rest.into(), fds));
                break;
            }
            match self.splitter.next(&mut rest, fds) {
                Ok(Step::NeedInput) => break,
                Ok(Step::Packet(packet)) => {
                    self.packet_done();
                    self.packet(packet.header, packet.fds, packet.payload, sink);
                }
                Ok(Step::TooLarge(too_large)) => {
                    self.first_packet_due = None;
                    let error = Error::too_large(u64::from(too_large.length), "max_packet", u64::from(too_large.limit));
                    if too_large.header.is_call() {
                        self.reply_error(&too_large.header, &error);
                    }
                    if !too_large.skipped {
                        self.close(Some(error));
                    }
                }
                Err(error) => self.malformed(&error),
            }
        }
        self.packet_since = if self.splitter.is_mid_packet() { Some(self.packet_since.unwrap_or(now)) } else { None };
    }

    /// The client has ended its input. What it was promised, it gets.
    pub(crate) fn end_of_input(&mut self) {
        match self.phase {
            Phase::Open => {
                log::debug!(client = self.peer.client_id(); "input ended");
                self.close(None);
            }
            Phase::Lingering(_) => self.phase = Phase::Done,
            _ => {}
        }
    }

    /// The connection is broken: nothing can be read or written any more.
    pub(crate) fn broken(&mut self) {
        self.phase = Phase::Done;
    }

    /// Closes the connection once all accepted calls are answered, with a reason that is announced, or none.
    pub(crate) fn close(&mut self, reason: Option<Error>) {
        if matches!(self.phase, Phase::Open) {
            if let Some(reason) = &reason {
                log::info!(client = self.peer.client_id(); "closing: {reason}");
            }
            self.phase = Phase::Closing(reason.map(Box::new));
            self.splitter = Splitter::new(self.limits.max_packet);
            self.unsplit = None;
            self.packet_since = None;
            self.first_packet_due = None;
        }
    }

    /// Replies are there, for so many calls that cost so much while they ran.
    pub(crate) fn answered(&mut self, bytes: Bytes, replies: usize, cost: u64, now: Instant) {
        self.running_bytes -= cost;
        self.push(bytes, replies, now);
    }

    /// So many bytes of the output have left.
    pub(crate) fn wrote(&mut self, bytes: usize, now: Instant) {
        self.in_progress -= self.output.advance(bytes);
        self.written_at = now;
    }

    /// Replies have left that never were in the output.
    pub(crate) fn answered_and_left(&mut self, replies: usize, cost: u64) {
        self.running_bytes -= cost;
        self.in_progress -= replies;
    }

    /// Starts what may start now, and splits what was read meanwhile. To be called after anything that made room.
    pub(crate) fn pump(&mut self, now: Instant, sink: &mut impl Sink) {
        self.start_what_may(now, sink);
        let is_held = self.is_full();
        if self.is_held && !is_held && self.splitter.is_mid_packet() {
            // While the client was held, no time ran against the packet that was not read.
            self.packet_since = Some(now);
        }
        self.is_held = is_held;
    }

    fn start_what_may(&mut self, now: Instant, sink: &mut impl Sink) {
        loop {
            while !self.is_starved()
                && let Some(held) = self.backlog.pop_front()
            {
                let Held { header, entry, metadata, arguments, cost } = held;
                self.backlog_bytes -= u64::from(cost);
                self.start(Start { header, entry, metadata, arguments: Arguments::Owned(arguments), cost }, sink);
            }
            if self.backlog.is_empty() {
                self.backlog = VecDeque::new();
            }
            if self.is_full() {
                return;
            }
            let Some((bytes, fds)) = self.unsplit.take() else { return };
            self.feed(&bytes, fds, now, sink);
        }
    }

    /// Whether the connection is to be dropped.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    /// What follows from the state the client is in. To be called after everything that happened to it.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        if let Phase::Closing(reason) = &mut self.phase
            && self.in_progress == 0
            && self.backlog.is_empty()
        {
            match reason.take() {
                Some(reason) => {
                    let mut packet = Vec::new();
                    encode_announcement(&reason, &mut packet);
                    self.phase = Phase::Announced;
                    self.push(packet.into(), 0, now);
                }
                None if self.output.is_empty() => self.phase = Phase::Done,
                None => {}
            }
        }
        match self.phase {
            Phase::Announced if self.output.is_empty() => {
                self.phase = Phase::Lingering(now + LINGER);
                Next::ShutDown
            }
            Phase::Done => Next::Done,
            _ => Next::Go,
        }
    }

    /// When [`Self::expire`] is to be called next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.is_done() {
            return None;
        }
        let write = (!self.output.is_empty()).then(|| self.written_at + self.limits.write_timeout);
        let read = match self.phase {
            Phase::Lingering(until) => Some(until),
            // While the service does not read a client, no time runs against what it sends.
            Phase::Open if !self.is_full() => {
                let packet = self.packet_since.map(|since| since + self.limits.packet_timeout);
                earlier(packet, self.first_packet_due)
            }
            _ => None,
        };
        earlier(write, read)
    }

    /// Time has passed: ends what has taken too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.is_done() {
            return;
        }
        let past = |time: Option<Instant>| time.is_some_and(|time| time <= now);
        if !self.output.is_empty() && self.written_at + self.limits.write_timeout <= now {
            // It cannot be told: it does not read.
            log::info!(
                client = self.peer.client_id();
                "cut: it left {} bytes of replies unread for write_timeout = {:?}",
                self.output.len(),
                self.limits.write_timeout
            );
            self.phase = Phase::Done;
        }
        match self.phase {
            Phase::Lingering(until) if until <= now => self.phase = Phase::Done,
            Phase::Open if !self.is_full() => {
                if past(self.first_packet_due) {
                    self.close(Some(packet_timeout("first_packet_timeout", self.limits.first_packet_timeout)));
                } else if past(self.packet_since.map(|since| since + self.limits.packet_timeout)) {
                    self.close(Some(packet_timeout("packet_timeout", self.limits.packet_timeout)));
                }
            }
            _ => {}
        }
    }

    fn packet_done(&mut self) {
        self.first_packet_due = None;
        self.packet_since = None;
    }

    fn packet(&mut self, header: Header, fds: u32, payload: Payload<'_>, sink: &mut impl Sink) {
        match header.packet_type {
            PacketType::Call | PacketType::CallWithMetadata | PacketType::CallWithFds => {
                if let Err(error) = self.call(header, fds, payload, sink) {
                    self.reply_error(&header, &error);
                    if fds > 0 && self.peer.transport() != Transport::Unix {
                        self.close(Some(error));
                    }
                }
            }
            PacketType::Event => match keepalive::classify(&header) {
                Some(keepalive::Keepalive::Ping) => self.push_control(Bytes::copy_from_slice(&keepalive::pong())),
                Some(keepalive::Keepalive::Pong) => {}
                None => self.ignored(&header),
            },
            // A call cannot be cancelled yet, so its result always comes first.
            PacketType::Cancel => {}
            _ => self.ignored(&header),
        }
    }

    fn call(&mut self, header: Header, fds: u32, payload: Payload<'_>, sink: &mut impl Sink) -> Result<(), Error> {
        if header.status != Status::Ok {
            return Err(Error::protocol(format!("a call has status 0, not {}", header.status.to_wire())));
        }
        if fds > 0 && self.peer.transport() != Transport::Unix {
            return Err(Error::protocol("descriptors can come over Unix sockets only"));
        }
        let entry = sink.find(&header)?;
        if fds > 0 {
            return Err(Error::unsupported("no procedure takes descriptors; they were closed"));
        }
        // A packet is at most `max_packet` long, which is a u32.
        let cost = (HEADER_LEN + payload.len()) as u32;
        let (metadata, skip) = if header.packet_type == PacketType::CallWithMetadata {
            let (metadata, length) =
                split_metadata(&payload).map_err(|error| Error::invalid_arguments(error.to_string()))?;
            (Some(Box::new(metadata)), length)
        } else {
            (None, 0)
        };
        let arguments = match payload {
            Payload::Borrowed(bytes) => Arguments::Borrowed(&bytes[skip..]),
            Payload::Assembled(assembled) => {
                let (bytes, offset) = assembled.into_vec_and_offset();
                Arguments::Owned(Bytes::from(bytes).slice(offset + skip..))
            }
        };
        if self.backlog.is_empty() && !self.is_starved() {
            self.start(Start { header, entry, metadata, arguments, cost }, sink);
        } else {
            self.backlog_bytes += u64::from(cost);
            self.backlog.push_back(Held { header, entry, metadata, arguments: arguments.into_owned(), cost });
        }
        Ok(())
    }

    fn start(&mut self, call: Start<'_>, sink: &mut impl Sink) {
        self.in_progress += 1;
        self.running_bytes += u64::from(call.cost);
        log::trace!(client = self.peer.client_id(), serial = call.header.serial; "the reader starts a call");
        sink.start(call);
    }

    fn malformed(&mut self, error: &SplitError) {
        self.first_packet_due = None;
        let reason = Error::protocol(error.to_string());
        if let Some(header) = error.header().filter(|header| header.is_call()) {
            self.reply_error(header, &reason);
        }
        self.close(Some(reason));
    }

    fn ignored(&self, header: &Header) {
        log::debug!(
            client = self.peer.client_id(), serial = header.serial;
            "ignored a packet of type {}", header.packet_type.to_wire()
        );
    }

    /// Answers a call that was not accepted.
    fn reply_error(&mut self, header: &Header, error: &Error) {
        log::debug!(client = self.peer.client_id(), serial = header.serial; "refused: {error}");
        let mut packet = Vec::new();
        encode_reply_error(header, error, &mut packet);
        self.push_control(packet.into());
    }

    /// Adds a packet that answers no call in progress, at the time of [`Self::feed`].
    fn push_control(&mut self, packet: Bytes) {
        self.output.push(packet, 0);
    }

    fn push(&mut self, bytes: Bytes, replies: usize, now: Instant) {
        if self.output.is_empty() {
            self.written_at = now;
        }
        self.output.push(bytes, replies);
    }

    /// Whether no call of this client may start now.
    fn is_starved(&self) -> bool {
        self.in_progress >= self.limits.max_client_requests || self.holds_too_much()
    }

    /// Whether nothing of this client is read now.
    fn is_full(&self) -> bool {
        self.backlog.len() >= self.limits.max_client_backlog
            || self.backlog_bytes >= self.limits.max_client_backlog_bytes
            || self.holds_too_much()
    }

    fn holds_too_much(&self) -> bool {
        self.output.len() + self.running_bytes > self.limits.max_client_output
    }
}

#[cfg(test)]
mod tests;

fn packet_timeout(key: &'static str, limit: Duration) -> Error {
    Error::packet_timeout(key, limit)
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
