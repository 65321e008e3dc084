//! The other end of a connection: sends calls, reads replies, and leaves in one of several ways.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::time::Instant;

use postroom_protocol::{
    Error, Header, Metadata, PacketType, Payload, Splitter, Status, Step, keepalive, metadata, packet,
};

use super::hub::Shared;
use super::ledger::Call;
use super::pipe::Pipe;

/// How a client goes when it has sent its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Waits for its replies, then leaves.
    Waits,
    /// Ends its input at once and reads what it was promised.
    HalfCloses,
    /// Leaves without a word, in the middle of things.
    Leaves,
    /// Neither reads nor sends any more.
    Dies,
}

#[derive(Debug)]
pub(super) struct Remote {
    pub(super) id: u64,
    pub(super) pipe: Rc<RefCell<Pipe>>,
    end: End,
    /// Calls to send, and those sent and answered.
    quota: u64,
    pub(super) sent: u64,
    told: u64,
    /// Bytes that the socket has not taken.
    unsent: Vec<u8>,
    splitter: Splitter,
    scratch: Vec<u8>,
    /// What it reads at once, and how long it takes to come back for more.
    reads: (usize, Duration),
    next_burst: Instant,
    is_dead: bool,
    strays: u32,
    /// Why the service closed, if it told.
    reason: Option<String>,
    pub(super) has_ended: bool,
    /// Whether it may have missed replies.
    pub(super) has_left: bool,
    pub(super) woken: bool,
    /// When it comes back by itself.
    pub(super) timer: Option<Instant>,
}

impl Remote {
    pub(super) fn new(id: u64, quota: u64, pipe: Rc<RefCell<Pipe>>, shared: &Shared) -> Self {
        let (config, random) = (&shared.config, &mut *shared.random.borrow_mut());
        let end = match () {
            () if random.once_in(config.leavers) => End::Leaves,
            () if random.once_in(config.dead) => End::Dies,
            () if random.once_in(config.half_closes) => End::HalfCloses,
            () => End::Waits,
        };
        let quota = if matches!(end, End::Leaves | End::Dies) { random.between(1, quota) } else { quota };
        let reads = match random.once_in(config.slow_readers) {
            true => (random.between(100, 4000) as usize, Duration::from_micros(random.between(100, 3000))),
            false => (256 * 1024, Duration::ZERO),
        };
        let mut unsent = Vec::new();
        if random.once_in(config.keepalive) {
            unsent.extend(keepalive::ping());
        }
        Self {
            id,
            pipe,
            end,
            quota,
            sent: 0,
            told: 0,
            unsent,
            splitter: Splitter::new(1 << 20),
            scratch: Vec::new(),
            reads,
            next_burst: shared.now.get(),
            is_dead: false,
            strays: 0,
            reason: None,
            has_ended: false,
            has_left: false,
            woken: false,
            timer: None,
        }
    }

    /// Reads and sends what it can. Returns when to come back, if nothing happens before.
    pub(super) fn act(&mut self, shared: &Shared) -> Option<Instant> {
        if self.has_ended || self.is_dead {
            if self.pipe.borrow().service_left {
                self.leave(true);
            }
            return None;
        }
        let now = shared.now.get();
        let more = self.read(shared);
        let (is_over, was_cut) = {
            let pipe = self.pipe.borrow();
            let is_empty = pipe.to_client.is_empty();
            (is_empty && (pipe.service_ended || pipe.service_left), pipe.service_left && !pipe.service_ended)
        };
        if is_over {
            self.over(was_cut, shared);
            return None;
        }
        let mut again = more.then(|| now + self.reads.1);
        if let Some(at) = self.send(shared) {
            again = Some(again.map_or(at, |again| again.min(at)));
        }
        again
    }

    /// The service has closed the connection.
    fn over(&mut self, was_cut: bool, shared: &Shared) {
        let drained = shared.config.drain_after > 0;
        match self.reason.as_deref() {
            Some("shutting_down") if drained => {}
            Some(reason) => panic!("client {} was closed: {reason}: {self:?}", self.id),
            // What was announced comes before the end; without a word it ends only after the end of the input.
            None => assert!(self.pipe.borrow().client_ended, "client {} was cut ({was_cut}): {self:?}", self.id),
        }
        self.leave(false);
    }

    fn leave(&mut self, in_between: bool) {
        self.has_ended = true;
        self.has_left |= in_between;
        self.pipe.borrow_mut().client_left = true;
    }

    /// Time is over for one that is dead.
    pub(super) fn give_up(&mut self) {
        if !self.has_ended {
            self.leave(true);
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.is_dead
    }

    /// Whether there may be more to read.
    fn read(&mut self, shared: &Shared) -> bool {
        let mut scratch = std::mem::take(&mut self.scratch);
        self.pipe.borrow_mut().to_client.pop(self.reads.0, &mut scratch);
        let mut rest = &scratch[..];
        let mut splitter = std::mem::replace(&mut self.splitter, Splitter::new(1 << 20));
        while let Step::Packet(packet) = splitter.next(&mut rest, 0).unwrap() {
            self.packet(&packet.header, packet.payload, shared);
        }
        self.splitter = splitter;
        self.scratch = scratch;
        !self.pipe.borrow().to_client.is_empty()
    }

    fn packet(&mut self, header: &Header, payload: Payload<'_>, shared: &Shared) {
        match keepalive::classify(header) {
            Some(keepalive::Keepalive::Ping) => return self.unsent.extend(keepalive::pong()),
            Some(keepalive::Keepalive::Pong) => return,
            None => {}
        }
        assert_eq!(header.packet_type, PacketType::Reply);
        let error = (header.status == Status::Error).then(|| Error::decode(&payload).unwrap());
        let code = error.as_ref().map(|error| error.code().as_str());
        if header.program == 0 {
            assert!(self.reason.is_none());
            self.reason = code.map(str::to_owned);
            return;
        }
        assert!(self.reason.is_none(), "client {}: the announcement is not the last word", self.id);
        shared.ledger.borrow_mut().told(self.id, header.serial, code);
        self.told += u64::from(u64::from(header.serial) < self.sent);
    }

    /// Sends what it may. Returns when it has more to send.
    fn send(&mut self, shared: &Shared) -> Option<Instant> {
        let now = shared.now.get();
        if self.reason.is_some() {
            // It has been told that nothing more is read.
            let mut pipe = self.pipe.borrow_mut();
            pipe.client_ended = true;
            return None;
        }
        if now >= self.next_burst && self.unsent.is_empty() && !self.pipe.borrow().client_ended {
            let random = &mut *shared.random.borrow_mut();
            self.next_burst =
                now + Duration::from_nanos(random.between(1000, 1000 + shared.config.think.as_nanos() as u64));
            let window = shared.config.window.saturating_sub(self.sent - self.told);
            let burst = window.min(self.quota - self.sent);
            let burst = if random.once_in(3) { burst } else { random.below(burst + 1) };
            (0..burst).for_each(|_| self.call(random, shared));
        }
        let taken = self.pipe.borrow_mut().to_service.push(&self.unsent);
        self.unsent.drain(..taken);
        if self.sent < self.quota {
            return (self.unsent.is_empty() && self.sent - self.told < shared.config.window).then_some(self.next_burst);
        }
        match self.end {
            End::Leaves => {
                let flushed = shared.random.borrow_mut().once_in(2);
                if self.unsent.is_empty() || !flushed {
                    self.leave(true);
                }
            }
            End::Dies => self.is_dead = true,
            End::HalfCloses if self.unsent.is_empty() => self.pipe.borrow_mut().client_ended = true,
            End::Waits if self.told == self.sent => self.leave(false),
            End::HalfCloses | End::Waits => {}
        }
        None
    }

    fn call(&mut self, random: &mut super::random::Random, shared: &Shared) {
        let config = &shared.config;
        let serial = self.sent as u32;
        let procedure = random.pick(&config.weights);
        let mut header = Header {
            program: 1,
            version: 1,
            procedure: procedure as i32 + 1,
            packet_type: PacketType::Call,
            serial,
            status: Status::Ok,
        };
        let mut payload = Vec::new();
        let key = random.once_in(config.keys.0).then(|| random.below(config.keys.1) as u8);
        let deadline = random.once_in(config.deadlines.0).then(|| random.between(1, config.deadlines.1) as u32);
        if key.is_some() || deadline.is_some() {
            header.packet_type = PacketType::CallWithMetadata;
            let key = key.map(|key| vec![key]);
            metadata::encode(&Metadata { key, deadline_ms: deadline, ..Metadata::default() }, &mut payload);
        }
        let length = match random.once_in(config.big.0) {
            true => random.below(config.big.1),
            false => random.below(config.payload + 1),
        };
        payload.resize(payload.len() + length as usize, 0);
        packet::encode_packet(&header, &payload, &mut self.unsent);
        let call = Call { procedure: procedure as u8, key, ..Call::default() };
        shared.ledger.borrow_mut().calls[self.id as usize].push(call);
        self.sent += 1;
        if random.once_in(config.cancels) {
            let serial = serial - random.below(u64::from(serial).min(20) + 1) as u32;
            let call = &mut shared.ledger.borrow_mut().calls[self.id as usize][serial as usize];
            call.is_cancelled = true;
            let procedure = i32::from(call.procedure) + 1;
            let header = Header { packet_type: PacketType::Cancel, serial, procedure, ..header };
            packet::encode_packet(&header, &[], &mut self.unsent);
        }
        if random.once_in(config.strays) {
            self.strays += 1;
            let serial = u32::MAX - self.strays;
            let header = Header { packet_type: PacketType::Call, serial, ..header };
            match random.below(4) {
                0 => self.unsent.extend(keepalive::ping()),
                1 => packet::encode_packet(&Header { procedure: 99, ..header }, &[], &mut self.unsent),
                2 => packet::encode_packet(&Header { status: Status::Error, ..header }, &[], &mut self.unsent),
                _ => packet::encode_packet(&Header { packet_type: PacketType::Reply, ..header }, &[], &mut self.unsent),
            }
        }
    }
}
