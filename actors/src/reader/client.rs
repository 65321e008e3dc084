//! The state of one client: plain code, without sockets, clock or actors.
//!
//! Bytes come in, packets or messages of MessagePack-RPC as the first byte says; calls go out to a [`Sink`], replies
//! come back and go to the [`Output`]. It decides what starts,
//! what waits in the backlog, when the service stops reading, and when and how the connection ends:
//!
//! ```text
//! open ──input ended──────────► closing ──all answered, all left──► done
//!   ├──the service closes it──► closing ──all answered──► announced ──all left──► lingering ──► done
//!   └──it does not answer pings─► cut ─┐
//! any ──the connection breaks──────────┴► broken ──► gone ──what runs to its end has ended──► done
//! ```
//!
//! Each accepted call can be found with the hub ([`Calls`](crate::hub::calls)), so that it can be ended early: by a
//! cancel packet, its deadline, or the end of its client. Calls with the same key start one after the other.
//!
//! Queues: the backlog (`max_client_backlog`, `max_client_backlog_bytes`), bytes that were read and not split while
//! the client is held (one read buffer), the output (`max_client_output`), calls in progress
//! (`max_client_requests`), those that wait for another with their key among them. At each bound the client is held;
//! none of them is an error. Events wait in the [`Outlet`], which has bounds of its own and holds nothing.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postroom_protocol::rpc::Format;
use postroom_protocol::{
    Error, HEADER_LEN, Header, Packet, PacketType, Payload, SplitError, Status, Step, keepalive, split_metadata,
};

use crate::events::outlet::Outlet;
use crate::form::Form;
use crate::hub::calls::{Place, Ties};
use crate::limits::{Key, Limits};
use crate::peer::{Peer, Transport};
use crate::reader::output::Output;
use crate::stage::CallRef;
use crate::stats::block::{Block, State};
use crate::stats::outcome::Verdict;
use crate::time::Instant;

/// How long the service goes on reading, and throwing away, what a client sends after its close was announced.
/// Closing a socket with unread input would take the announcement from the client.
const LINGER: Duration = Duration::from_secs(1);

mod clock;
mod ending;
mod events;
mod incoming;
mod messages;
mod sink;

use incoming::Incoming;
pub(crate) use sink::{Accept, Arguments, Found, Named, Sink, Start};

/// The program `directory` and its procedure `hello`: who calls it takes part in keepalive.
const HELLO: (u32, i32) = (0x6469_7265, 1);

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
    stats: Arc<Block>,
    /// Packets until its first byte says otherwise.
    format: Format,
    incoming: Incoming,
    phase: Phase,
    /// Calls that started and whose reply has not left.
    in_progress: usize,
    /// The bytes of calls that started and are not answered.
    running_bytes: u64,
    backlog: VecDeque<Held>,
    backlog_bytes: u64,
    /// The keys of calls that run, and for each the calls that wait for it, in order. Those count as in progress.
    keys: BTreeMap<Arc<[u8]>, VecDeque<Held>>,
    /// Bytes that were read while the client was held, with how many descriptors came at their end.
    unsplit: Option<(Box<[u8]>, usize)>,
    pub(crate) output: Output,
    /// The client's subscriptions, if it has any.
    outlet: Option<Box<Outlet>>,
    /// When the first packet is due; none once it is there.
    first_packet_due: Option<Instant>,
    /// When the first byte of the packet came that is being assembled.
    packet_since: Option<Instant>,
    /// Whether nothing of this client was read when it was looked at last.
    is_held: bool,
    /// When a byte last left, or the output began to wait.
    written_at: Instant,
    /// When a byte last came, or the service began to read again.
    heard_at: Instant,
    /// When a call last came or was answered.
    active_at: Instant,
    /// Whether the client takes part in keepalive, the pings since it was heard last, and when the last of them was.
    takes_pings: bool,
    pings: u32,
    pinged_at: Instant,
    /// The deadline of calls that come without one.
    default_deadline: Option<Duration>,
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
    /// The last word is on its way out, as far as the socket takes it at once.
    Cut,
    /// Nothing can be read or written any more; what follows from it is not done yet.
    Broken,
    /// The client has left. Procedures that run to their end do so; nobody is told.
    Gone,
    Done,
}

/// A call in the backlog.
#[derive(Debug)]
struct Held {
    call: CallRef,
    accept: Accept,
    arguments: Bytes,
}

impl Client {
    pub(crate) fn new(peer: Peer, limits: Rc<Limits>, stats: Arc<Block>, now: Instant) -> Self {
        Self {
            peer,
            stats,
            format: Format::Packets,
            incoming: Incoming::Nothing,
            phase: Phase::Open,
            in_progress: 0,
            running_bytes: 0,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            keys: BTreeMap::new(),
            unsplit: None,
            output: Output::default(),
            outlet: None,
            first_packet_due: Some(now + limits.first_packet_timeout),
            packet_since: None,
            is_held: false,
            written_at: now,
            heard_at: now,
            active_at: now,
            takes_pings: false,
            pings: 0,
            pinged_at: now,
            default_deadline: None,
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
            _ => Wants::Nothing,
        }
    }

    /// Room to read straight into a big packet; what was read is told by [`Self::filled`].
    pub(crate) fn room(&mut self) -> Option<&mut [u8]> {
        self.incoming.room()
    }

    /// So many bytes were read into [`Self::room`], with so many descriptors at their end.
    pub(crate) fn filled(&mut self, bytes: usize, fds: usize, now: Instant, sink: &mut impl Sink) {
        self.incoming.filled(bytes);
        self.feed(&[], fds, now, sink);
    }

    /// Takes what was read, and how many descriptors came with its last byte.
    pub(crate) fn feed(&mut self, input: &[u8], fds: usize, now: Instant, sink: &mut impl Sink) {
        if self.output.is_empty() {
            self.written_at = now;
        }
        (self.heard_at, self.pings) = (now, 0);
        if let (Incoming::Nothing, Phase::Open, Some(first)) = (&self.incoming, &self.phase, input.first()) {
            self.format = Format::of_first_byte(*first);
            let brings_fds = self.peer.transport() == Transport::Unix;
            self.incoming = Incoming::new(self.format, self.limits.max_packet, brings_fds);
        }
        match self.format {
            Format::Packets => self.feed_packets(input, fds, now, sink),
            Format::MessagePackRpc => self.feed_messages(input, now, sink),
        }
        self.packet_since = if self.incoming.is_mid_packet() { Some(self.packet_since.unwrap_or(now)) } else { None };
    }

    fn feed_packets(&mut self, mut rest: &[u8], fds: usize, now: Instant, sink: &mut impl Sink) {
        while matches!(self.phase, Phase::Open) {
            if self.is_full() && !rest.is_empty() {
                self.unsplit = Some((rest.into(), fds));
                break;
            }
            let Incoming::Packets(splitter) = &mut self.incoming else { break };
            // By itself: its header goes from where it was read to where it is needed, and not by way of a step that has
            // to be written and read first.
            if let Some((header, payload)) = splitter.next_whole(&mut rest) {
                self.packet_done();
                self.packet(header, 0, Payload::Borrowed(payload), now, sink);
                continue;
            }
            match splitter.next(&mut rest, fds) {
                Ok(Step::NeedInput) => break,
                Ok(Step::Packet(Packet { header, fds, payload })) => {
                    self.packet_done();
                    self.other_packet(header, fds, payload, now, sink);
                }
                Ok(Step::TooLarge(too_large)) => {
                    self.first_packet_due = None;
                    self.stats.limit(Key::max_packet);
                    let error = Error::too_large(u64::from(too_large.length), "max_packet", u64::from(too_large.limit));
                    if too_large.header.is_call() {
                        self.reply_error(too_large.header, &error, sink);
                    }
                    if !too_large.skipped {
                        self.close(Some(error));
                    }
                }
                Err(error) => self.malformed(&error, sink),
            }
        }
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

    /// The connection is broken: nothing can be read or written any more. [`Self::disconnect`] comes next.
    pub(crate) fn broken(&mut self) {
        if !matches!(self.phase, Phase::Gone | Phase::Done) {
            self.phase = Phase::Broken;
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.phase, Phase::Broken)
    }

    /// Whether the client has left, so that nobody is to be told anything.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Broken | Phase::Gone | Phase::Done)
    }

    /// Calls that come without a deadline get this one from now on.
    pub(crate) fn set_default_deadline(&mut self, deadline: Duration) {
        self.default_deadline = Some(deadline);
    }

    /// The client is pinged from now on.
    pub(crate) fn enable_keepalive(&mut self) {
        self.takes_pings = true;
    }

    /// Closes the connection once all accepted calls are answered, with a reason that is announced, or none.
    pub(crate) fn close(&mut self, reason: Option<Error>) {
        if matches!(self.phase, Phase::Open) {
            if let Some(reason) = &reason {
                log::info!(client = self.peer.client_id(); "closing: {reason}");
            }
            self.phase = Phase::Closing(reason.map(Box::new));
            self.incoming = Incoming::Nothing;
            self.unsplit = None;
            self.outlet = None;
            self.packet_since = None;
            self.first_packet_due = None;
        }
    }

    /// Replies are there, for so many calls that cost so much while they ran.
    pub(crate) fn answered(&mut self, bytes: Bytes, replies: usize, cost: u64, now: Instant) {
        self.running_bytes -= cost;
        self.push(bytes, replies, now);
    }

    /// The same for what is left of replies that another thread has begun to write.
    pub(crate) fn answered_in_part(&mut self, rest: Bytes, replies: usize, cost: u64, now: Instant) {
        self.running_bytes -= cost;
        self.written_at = now;
        self.output.push_rest(rest, replies);
    }

    /// So many bytes of the output have left.
    pub(crate) fn wrote(&mut self, bytes: usize, now: Instant) {
        let replies = self.output.advance(bytes);
        self.in_progress -= replies;
        self.written_at = now;
        if replies > 0 {
            self.active_at = now;
        }
    }

    /// Replies have left that never were in the output, or there will be none.
    pub(crate) fn answered_and_left(&mut self, replies: usize, cost: u64, now: Instant) {
        self.running_bytes -= cost;
        self.in_progress -= replies;
        self.active_at = now;
    }

    /// Starts what may start now, and splits what was read meanwhile. To be called after anything that made room.
    pub(crate) fn pump(&mut self, now: Instant, sink: &mut impl Sink) {
        self.start_what_may(now, sink);
        let full = self.full();
        let is_held = full.is_some();
        if let (false, Some(limit)) = (self.is_held, full) {
            self.stats.limit(limit);
        }
        if self.is_held && !is_held {
            // While the client was held, no time ran against what was not read.
            self.heard_at = now;
            if self.incoming.is_mid_packet() {
                self.packet_since = Some(now);
            }
        }
        self.is_held = is_held;
    }

    fn start_what_may(&mut self, now: Instant, sink: &mut impl Sink) {
        loop {
            while !self.is_starved()
                && let Some(held) = self.backlog.pop_front()
            {
                let Held { call, accept, arguments } = held;
                self.backlog_bytes -= u64::from(accept.cost);
                sink.moved(call, Place::Started);
                self.start(Start { call, accept: &accept, arguments: Arguments::Owned(arguments) }, sink);
            }
            if self.backlog.is_empty() && self.backlog.capacity() > 0 {
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
                    self.phase = Phase::Announced;
                    self.push(self.announcement(&reason), 0, now);
                }
                None if self.output.is_empty() => self.phase = Phase::Done,
                None => {}
            }
        }
        match self.phase {
            Phase::Cut => {
                self.phase = Phase::Broken;
                Next::Go
            }
            Phase::Gone if self.in_progress == 0 && self.backlog.is_empty() => {
                self.phase = Phase::Done;
                Next::Done
            }
            Phase::Announced if self.output.is_empty() => {
                self.phase = Phase::Lingering(now + LINGER);
                Next::ShutDown
            }
            Phase::Done => Next::Done,
            _ => Next::Go,
        }
    }

    fn packet_done(&mut self) {
        self.first_packet_due = None;
        self.packet_since = None;
    }

    /// A packet that was cut, or has descriptors.
    #[inline(never)]
    fn other_packet(&mut self, header: Header, fds: u32, payload: Payload<'_>, now: Instant, sink: &mut impl Sink) {
        self.packet(header, fds, payload, now, sink);
    }

    /// A packet. Its header stays a value until it is written into what keeps it: one that was put into memory to be
    /// pointed to would be copied from there, and the copy would wait for what was just written.
    #[inline(always)]
    fn packet(&mut self, header: Header, fds: u32, payload: Payload<'_>, now: Instant, sink: &mut impl Sink) {
        match header.packet_type {
            PacketType::Call | PacketType::CallWithMetadata | PacketType::CallWithFds => {
                if let Err(error) = self.call(header, fds, payload, now, sink) {
                    self.reply_error(header, &error, sink);
                    if fds > 0 && self.peer.transport() != Transport::Unix {
                        self.close(Some(error));
                    }
                }
            }
            PacketType::Event => self.event(header),
            PacketType::Cancel => {
                self.cancel(header, now, sink);
            }
            _ => self.ignored(header),
        }
    }

    /// A packet of keepalive, or one that means nothing.
    #[inline(never)]
    fn event(&mut self, header: Header) {
        match keepalive::classify(&header) {
            Some(keepalive::Keepalive::Ping) => {
                self.takes_pings = true;
                self.push_control(Bytes::copy_from_slice(&keepalive::pong()));
            }
            Some(keepalive::Keepalive::Pong) => self.takes_pings = true,
            None => self.ignored(header),
        }
    }

    /// A cancel packet. One that comes too late means nothing: its result came first.
    #[inline(never)]
    fn cancel(&mut self, header: Header, now: Instant, sink: &mut impl Sink) {
        if let Some(call) = sink.oldest(&header) {
            self.end_call(call, Some(&Error::cancelled()), now, sink);
        }
    }

    #[inline(always)]
    fn call(
        &mut self,
        header: Header,
        fds: u32,
        payload: Payload<'_>,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<(), Error> {
        if header.status != Status::Ok {
            return Err(Error::protocol(format!("a call has status 0, not {}", header.status.to_wire())));
        }
        if fds > 0 && self.peer.transport() != Transport::Unix {
            return Err(Error::protocol("descriptors can come over Unix sockets only"));
        }
        let Found { entry, codec } = sink.find(header.program, header.version, header.procedure)?;
        if fds > 0 {
            return Err(Error::unsupported("no procedure takes descriptors; they were closed"));
        }
        // A packet is at most `max_packet` long, which is a u32.
        let cost = (HEADER_LEN + payload.len()) as u32;
        let form = Form::Packet(codec);
        let is_hello = (header.program, header.procedure) == HELLO;
        if header.packet_type == PacketType::Call
            && self.default_deadline.is_none()
            && self.may_start()
            && let Payload::Borrowed(arguments) = payload
            && sink.accept_plain(entry)
        {
            let accept = Accept { header, entry, form, cost, received: now, deadline: None, ties: None };
            self.takes_pings |= is_hello;
            self.start_plain(accept, arguments, sink);
            return Ok(());
        }
        let mut deadline = self.default_deadline;
        let mut ties = None;
        let mut skip = 0;
        if header.packet_type == PacketType::CallWithMetadata {
            let (metadata, length) =
                split_metadata(&payload).map_err(|error| Error::invalid_arguments(error.to_string()))?;
            skip = length;
            deadline = metadata.deadline_ms.map(|ms| Duration::from_millis(ms.into())).or(deadline);
            let (trace, key) = (metadata.trace.map(Arc::from), metadata.key.map(Arc::from));
            ties = (trace.is_some() || key.is_some()).then(|| Arc::new(Ties { trace, key }));
        }
        let arguments = match payload {
            Payload::Borrowed(bytes) => Arguments::Borrowed(&bytes[skip..]),
            Payload::Assembled(assembled) => {
                let (bytes, offset) = assembled.into_vec_and_offset();
                Arguments::Owned(Bytes::from(bytes).slice(offset + skip..))
            }
        };
        self.takes_pings |= is_hello;
        let deadline = deadline.map(|deadline| now + deadline);
        self.admit(&Accept { header, entry, form, cost, received: now, deadline, ties }, arguments, sink);
        Ok(())
    }

    /// Accepts a call: it starts, or waits in the backlog.
    #[inline(always)]
    fn admit(&mut self, accept: &Accept, arguments: Arguments<'_>, sink: &mut impl Sink) {
        self.active_at = accept.received;
        if self.may_start() {
            let call = sink.accept(accept, Place::Started);
            self.start(Start { call, accept, arguments }, sink);
        } else {
            if self.backlog.is_empty() {
                let limit = if self.holds_too_much() { Key::max_client_output } else { Key::max_client_requests };
                self.stats.limit(limit);
            }
            self.backlog_bytes += u64::from(accept.cost);
            let call = sink.accept(accept, Place::Backlog);
            self.backlog.push_back(Held { call, accept: accept.clone(), arguments: arguments.into_owned() });
        }
    }

    /// Starts a call that nothing came with and that nobody looks for, as most inline calls are. What it accepts is
    /// written nowhere but where the call lies.
    #[inline(always)]
    fn start_plain(&mut self, accept: Accept, arguments: &[u8], sink: &mut impl Sink) {
        self.active_at = accept.received;
        self.count_in(accept.cost, accept.header.serial, None);
        sink.start(Start { call: CallRef::NONE, accept: &accept, arguments: Arguments::Borrowed(arguments) });
    }

    /// A call starts.
    #[inline(always)]
    fn count_in(&mut self, cost: u32, serial: u32, trace: Option<&str>) {
        self.in_progress += 1;
        self.running_bytes += u64::from(cost);
        log::trace!(client = self.peer.client_id(), serial = serial, trace = trace; "the reader starts a call");
    }

    #[inline(always)]
    fn start(&mut self, start: Start<'_>, sink: &mut impl Sink) {
        let accept = start.accept;
        self.count_in(accept.cost, accept.header.serial, accept.trace().map(AsRef::as_ref));
        if let Some(key) = accept.key() {
            if let Some(waiting) = self.keys.get_mut(key) {
                let Start { call, accept, arguments } = start;
                sink.moved(call, Place::Key);
                return waiting.push_back(Held { call, accept: accept.clone(), arguments: arguments.into_owned() });
            }
            self.keys.insert(key.clone(), VecDeque::new());
        }
        sink.start(start);
    }

    fn malformed(&mut self, error: &SplitError, sink: &impl Sink) {
        self.first_packet_due = None;
        let reason = Error::protocol(error.to_string());
        if let Some(header) = error.header().filter(|header| header.is_call()) {
            self.reply_error(*header, &reason, sink);
        }
        self.close(Some(reason));
    }

    #[inline(never)]
    fn ignored(&self, header: Header) {
        self.stats.ignored();
        log::debug!(
            client = self.peer.client_id(), serial = header.serial;
            "ignored a packet of type {}", header.packet_type.to_wire()
        );
    }

    /// Answers a packet with a call that was not accepted, in the codec of its program.
    #[inline(never)]
    fn reply_error(&mut self, header: Header, error: &Error, sink: &impl Sink) {
        self.refuse(Form::Packet(sink.codec(&header)), &header, error);
    }

    /// Answers a call that was not accepted.
    fn refuse(&mut self, form: Form, header: &Header, error: &Error) {
        log::debug!(client = self.peer.client_id(), serial = header.serial; "refused: {error}");
        self.stats.refused(Verdict::of(error));
        let mut answer = Vec::new();
        form.error(header, error, &mut answer);
        self.push_control(answer.into());
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

    /// Whether a call that comes now starts, and does not wait in the backlog.
    fn may_start(&self) -> bool {
        self.backlog.is_empty() && !self.is_starved()
    }

    /// Whether no call of this client may start now.
    pub(crate) fn is_starved(&self) -> bool {
        self.in_progress >= self.limits.max_client_requests || self.holds_too_much()
    }

    /// Whether nothing of this client is read now.
    fn is_full(&self) -> bool {
        self.full().is_some()
    }

    /// The limit by which nothing of this client is read now.
    fn full(&self) -> Option<Key> {
        if self.backlog.len() >= self.limits.max_client_backlog {
            Some(Key::max_client_backlog)
        } else if self.backlog_bytes >= self.limits.max_client_backlog_bytes {
            Some(Key::max_client_backlog_bytes)
        } else if self.holds_too_much() {
            Some(Key::max_client_output)
        } else {
            None
        }
    }

    /// Whether all that there is to do for this client is what its next packet and its calls bring: nothing waits,
    /// neither to start nor to leave, and it is in no other phase than most.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self.phase, Phase::Open)
            && self.output.is_empty()
            && self.backlog.capacity() == 0
            && self.unsplit.is_none()
            && self.keys.is_empty()
            && self.outlet.is_none()
            && !self.is_held
            && !self.holds_too_much()
    }

    /// Whether something waits for the replies to this client's calls to have left.
    pub(crate) fn presses(&self) -> bool {
        !self.backlog.is_empty() || self.is_held || !self.keys.is_empty() || !matches!(self.phase, Phase::Open)
    }

    /// What the client is doing, for the statistics.
    pub(crate) fn state(&self) -> State {
        match self.phase {
            Phase::Open if self.is_held => State::Held,
            Phase::Open if self.in_progress > 0 || !self.backlog.is_empty() => State::Busy,
            Phase::Open => State::Idle,
            Phase::Closing(_) | Phase::Announced | Phase::Lingering(_) => State::Closing,
            Phase::Cut | Phase::Broken | Phase::Gone | Phase::Done => State::Gone,
        }
    }

    fn holds_too_much(&self) -> bool {
        self.output.of_calls() + self.running_bytes > self.limits.max_client_output
    }
}

/// What a client holds, for a simulation to compare with its limits.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holds {
    pub(crate) in_progress: usize,
    pub(crate) running_bytes: u64,
    pub(crate) backlog: usize,
    pub(crate) backlog_bytes: u64,
    pub(crate) unsplit: usize,
    pub(crate) pings: u32,
    pub(crate) is_open: bool,
    pub(crate) is_full: bool,
}

#[cfg(test)]
impl Client {
    pub(crate) fn holds(&self) -> Holds {
        Holds {
            in_progress: self.in_progress,
            running_bytes: self.running_bytes,
            backlog: self.backlog.len(),
            backlog_bytes: self.backlog_bytes,
            unsplit: self.unsplit.as_ref().map_or(0, |(bytes, _)| bytes.len()),
            pings: self.pings,
            is_open: matches!(self.phase, Phase::Open),
            is_full: self.is_full(),
        }
    }
}

#[cfg(test)]
mod tests;
