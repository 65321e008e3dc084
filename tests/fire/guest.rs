//! A guest: one client that makes calls and trouble, and settles its account with the service at the end.
//!
//! What it does is decided by chance, never by what comes back or when; so the guest of one number does the same in
//! each run with the same seed.

use std::time::{Duration, Instant};

use postroom::Address;
use postroom_protocol::{Header, Metadata, PacketType, Status, keepalive, metadata};

mod speech;

use crate::chance::Chance;
use crate::ledger::{Ledger, Weather};
use crate::lies;
use crate::line::{End, Line};
use crate::menu::{Dish, Expects, Menu};
use crate::messages;
use crate::support::packet;
use crate::tally::Tally;

/// `max_packet` of the services that guests come to.
pub const MAX_PACKET: u32 = 64 * 1024;
/// `first_packet_timeout` and `packet_timeout` of these services.
pub const PACKET_TIMEOUT: Duration = Duration::from_millis(800);
/// `write_timeout` of these services.
pub const WRITE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a guest waits while nothing comes that settles something.
const PATIENCE: Duration = Duration::from_secs(20);

/// A guest at one service.
pub struct Guest<'a> {
    line: Line,
    ledger: Ledger,
    chance: Chance,
    menu: Menu,
    weather: &'a Weather,
    /// Its number, for the calls' ids and for whoever looks for the cause of a failure.
    number: u64,
    serial: u32,
    place: u64,
    /// The last calls, which may be cancelled.
    recent: Vec<Header>,
    /// Why the service will close the connection, if the guest has given it a reason.
    provoked: Option<&'static str>,
    /// Whether it has sent a part of a packet and will not send the rest.
    is_within_packet: bool,
    /// Whether it takes so long to send a packet that it may be told `packet_timeout`.
    dawdles: bool,
    /// Whether it speaks MessagePack-RPC.
    speaks_messages: bool,
}

/// Whether a guest was let in.
#[derive(Debug)]
pub enum Visit {
    Made(Tally),
    /// Nobody listens.
    NoService(std::io::Error),
}

/// One guest, from its first byte to its last.
pub fn visit(address: &Address, seed: u64, number: u64, menu: Menu, weather: &Weather) -> Visit {
    let mut line = match Line::connect(address) {
        Ok(line) => line,
        Err(error) => return Visit::NoService(error),
    };
    let mut chance = Chance::new(seed, number);
    if chance.one_in(4) {
        line.portion = [1, 7, 28, 29, 500][chance.below(5)];
    }
    let serial = [0, 1, u32::MAX - 5, 77][chance.below(4)];
    let dawdles = line.portion < 100;
    let mut guest = Guest {
        line,
        ledger: Ledger::default(),
        chance,
        menu,
        weather,
        number,
        serial,
        place: 0,
        recent: Vec::new(),
        provoked: None,
        is_within_packet: false,
        dawdles,
        speaks_messages: false,
    };
    guest.ledger.tally.clients += 1;
    if guest.chance.one_in(4) {
        guest.speaks_messages = true;
        guest.ledger.tally.fault("MessagePack-RPC from the first byte on");
        guest.stays_in_messages();
        guest.leaves_in_messages();
    } else {
        guest.stays();
        guest.leaves();
    }
    Visit::Made(guest.ledger.tally)
}

impl Guest<'_> {
    /// Calls and trouble.
    fn stays(&mut self) {
        for _ in 0..self.chance.within(1..30) {
            if self.is_over() {
                return;
            }
            match self.chance.within(0..100) {
                0..40 => {
                    for _ in 0..self.chance.within(1..12) {
                        self.calls();
                    }
                }
                40..42 => self.floods(),
                42..50 => self.cancels(),
                50..55 => self.pings(),
                55..62 => self.sends_what_means_nothing(),
                62..65 => self.sends_too_much(),
                65..68 => self.sends_broken_metadata(),
                68..72 => self.sends_descriptors(),
                72..75 => self.stops_reading(),
                75..80 => self.waits_for_answers(),
                80..83 => self.repeats(),
                83..85 => self.asks_for_too_much(),
                _ => {
                    let wait = self.chance.within(0..5_000);
                    self.pump(Duration::from_micros(wait));
                }
            }
            self.pump(Duration::ZERO);
        }
    }

    /// One of the ways in which a connection ends.
    fn leaves(&mut self) {
        if self.is_over() {
            return self.settles();
        }
        match self.chance.within(0..100) {
            0..26 => {
                self.waits_for_answers();
            }
            26..29 => self.changes_formats("MessagePack-RPC behind packets"),
            29..34 => self.misjudges_a_length(),
            34..50 => {
                self.ledger.tally.fault("half-close");
                self.line.half_close();
                self.waits_for_the_end(false);
            }
            50..58 => {
                self.ledger.tally.fault("half-close within a packet");
                self.sends_half_a_packet();
                self.line.half_close();
                self.waits_for_the_end(false);
            }
            58..75 => {
                self.ledger.tally.fault("vanished");
                if self.chance.one_in(2) {
                    self.line.reset_at_end();
                }
                let unanswered = self.ledger.open_calls() as u64;
                self.ledger.tally.faults("call that nobody waits for", unanswered);
            }
            75..80 => {
                self.ledger.tally.fault("vanished within a packet");
                self.sends_half_a_packet();
                self.pump(Duration::from_millis(1));
            }
            80..86 => {
                self.ledger.tally.fault("length under 28");
                self.provoked = Some("protocol");
                let length = self.chance.within(0..28) as u32;
                self.line.send(length.to_be_bytes().to_vec());
                self.waits_for_the_end(true);
            }
            86..90 => {
                self.ledger.tally.fault("length far over the limit");
                self.provoked = Some("too_large");
                let length = *self.chance.pick(&[16 * MAX_PACKET + 1, u32::MAX, 1 << 31]);
                let dish = self.menu.quick(&mut self.chance, 0);
                let header = self.header(&dish);
                self.line.send(header.encode(length).to_vec());
                self.owes(header, Dish { expects: refused(&["too_large"]), ..dish }, false);
                self.waits_for_the_end(true);
            }
            90..94 => {
                self.ledger.tally.fault("too many descriptors");
                self.provoked = Some("protocol");
                let dish = self.menu.quick(&mut self.chance, 0);
                let header = Header { packet_type: PacketType::CallWithFds, ..self.header(&dish) };
                let bytes = packet(header, &[&33_u32.to_be_bytes()[..], &dish.arguments].concat());
                self.line.send(bytes);
                self.owes(header, Dish { expects: refused(&["protocol"]), ..dish }, false);
                self.waits_for_the_end(true);
            }
            94..97 => {
                self.ledger.tally.fault("packet that does not end");
                self.provoked = Some("packet_timeout");
                self.sends_half_a_packet();
                self.waits_for_the_end(true);
            }
            _ => {
                self.ledger.tally.fault("left replies unread for long");
                self.line.reads = false;
                for id in 0..self.chance.within(10..80) {
                    let dish = self.menu.big(&mut self.chance, id);
                    self.call(dish);
                }
                let until = Instant::now() + Duration::from_millis(self.chance.within(100..1_500));
                while Instant::now() < until {
                    self.pump(until - Instant::now());
                }
                self.line.reads = true;
                self.waits_for_answers();
            }
        }
        if self.is_over() {
            self.settles();
        }
    }

    fn is_over(&self) -> bool {
        self.line.end.is_some() || self.ledger.told.is_some()
    }

    fn header(&mut self, dish: &Dish) -> Header {
        while self.ledger.header(self.serial).is_some() {
            self.serial = self.serial.wrapping_add(1);
        }
        let serial = self.serial;
        self.serial = serial.wrapping_add(1);
        let Dish { program, version, procedure, packet_type, status, .. } = *dish;
        Header { program, version, procedure, packet_type, serial, status }
    }

    fn owes(&mut self, header: Header, dish: Dish, has_deadline: bool) {
        if let Some(fault) = dish.fault {
            self.ledger.tally.fault(fault);
        }
        self.ledger.call(header, dish.expects, has_deadline, self.weather);
        self.recent.push(header);
        if self.recent.len() > 32 {
            self.recent.remove(0);
        }
    }

    fn id(&self) -> u64 {
        (self.number << 20) + self.place
    }

    /// Sends a call, with metadata at times.
    fn call(&mut self, dish: Dish) {
        let is_hello = dish.procedure == 1 && dish.program == crate::support::DIRECTORY;
        if self.speaks_messages {
            let header = self.header(&dish);
            self.line.send(messages::request(header.serial, &dish));
            if is_hello {
                self.ledger.has_deadline();
            }
            return self.owes(header, dish, false);
        }
        let key = dish.key;
        let mut about = Metadata { key: key.map(|key| key.to_be_bytes().to_vec()), ..Metadata::default() };
        if self.chance.one_in(6) {
            about.deadline_ms = Some(self.chance.within(0..30) as u32);
            self.ledger.tally.fault("deadline");
        }
        if self.chance.one_in(20) {
            about.trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
        }
        let mut header = self.header(&dish);
        let mut payload = Vec::new();
        if about != Metadata::default() || self.chance.one_in(10) {
            header.packet_type = PacketType::CallWithMetadata;
            metadata::encode(&about, &mut payload);
        }
        payload.extend_from_slice(&dish.arguments);
        self.line.send(packet(header, &payload));
        if is_hello {
            self.ledger.has_deadline();
        }
        self.owes(header, dish, about.deadline_ms.is_some());
    }

    fn calls(&mut self) {
        self.place += 1;
        let id = self.id();
        let mut dish = self.menu.any(&mut self.chance, id, self.place);
        if self.speaks_messages && dish.key.is_some() {
            // Messages have no metadata, and so no keys.
            dish = self.menu.quick(&mut self.chance, id);
        }
        self.call(dish);
    }

    fn floods(&mut self) {
        let calls = self.chance.within(200..900);
        self.ledger.tally.fault("flood");
        for _ in 0..calls {
            self.place += 1;
            let id = self.id();
            let dish = self.menu.quick(&mut self.chance, id);
            self.call(dish);
        }
    }

    /// More than the workers can do for a while.
    fn asks_for_too_much(&mut self) {
        self.ledger.tally.fault("queue of slow calls");
        for _ in 0..self.chance.within(50..150) {
            self.place += 1;
            let id = self.id();
            let dish = self.menu.slow(&mut self.chance, id);
            self.call(dish);
        }
    }

    /// The very same call, which panics each time, some times, and whatever the answers are.
    fn repeats(&mut self) {
        self.place += 1;
        // Other guests repeat theirs with the same arguments, which has to make no difference.
        let id = if self.chance.one_in(2) { self.chance.within(1..3) } else { self.id() };
        let dish = self.menu.deadly(&mut self.chance, id);
        for _ in 0..self.chance.within(2..8) {
            self.call(dish.clone());
            if self.chance.one_in(2) {
                self.waits_for_answers();
            }
            if self.is_over() {
                return;
            }
        }
    }

    fn cancels(&mut self) {
        self.ledger.tally.fault("cancel");
        if self.recent.is_empty() || self.chance.one_in(8) {
            let header = Header { packet_type: PacketType::Cancel, ..Header::ANNOUNCEMENT };
            return self.line.send(packet(header, b"nothing"));
        }
        let header = *self.chance.pick(&self.recent);
        // A serial comes up again when they wrap around; the call of today may be another.
        self.ledger.cancel(header.serial);
        self.line.send(packet(Header { packet_type: PacketType::Cancel, status: Status::Ok, ..header }, &[]));
    }

    fn pings(&mut self) {
        self.ledger.ping();
        self.line.send(keepalive::ping().to_vec());
    }

    fn sends_what_means_nothing(&mut self) {
        self.ledger.tally.fault("packet that means nothing");
        let packet_type = match self.chance.within(0..8) {
            0 => PacketType::Reply,
            1 => PacketType::Event,
            2 => PacketType::Stream,
            3 => PacketType::StreamHole,
            4 => PacketType::StreamCredit,
            5 => PacketType::Unknown(-1),
            6 => PacketType::Unknown(i32::MAX),
            _ => PacketType::Unknown(7),
        };
        let dish = self.menu.quick(&mut self.chance, 0);
        let header = Header { packet_type, ..self.header(&dish) };
        self.line.send(packet(header, &dish.arguments));
    }

    /// A packet over the limit, whole.
    fn sends_too_much(&mut self) {
        if self.line.portion < 100 {
            return;
        }
        self.ledger.tally.fault("packet over the limit");
        let body = MAX_PACKET as usize + self.chance.below(4 * MAX_PACKET as usize);
        let dish = self.menu.quick(&mut self.chance, 0);
        let header = self.header(&dish);
        self.line.send(packet(header, &vec![0xc1; body]));
        self.owes(header, Dish { expects: refused(&["too_large"]), ..dish }, false);
    }

    fn sends_broken_metadata(&mut self) {
        self.ledger.tally.fault("broken metadata");
        let payload = match self.chance.within(0..5) {
            0 => vec![],
            1 => vec![0xc0],
            2 => vec![0x81, 0xa3, b'k', b'e', b'y', 0x01],
            3 => [&[0x81, 0xa1, b'x', 0xc5, 0x20, 0x00][..], &[0; 0x2000]].concat(),
            _ => vec![0x81, 0xa1, b'x', 0x91, 0x91, 0x91, 0x91, 0x91, 0xc0],
        };
        let dish = self.menu.quick(&mut self.chance, 0);
        let header = Header { packet_type: PacketType::CallWithMetadata, ..self.header(&dish) };
        self.line.send(packet(header, &payload));
        self.owes(header, Dish { expects: refused(&["invalid_arguments"]), ..dish }, false);
    }

    fn sends_descriptors(&mut self) {
        if !self.line.is_unix() {
            return;
        }
        self.ledger.tally.fault("call with descriptors");
        let count = self.chance.within(0..5) as u32;
        let id = self.id();
        let dish = self.menu.quick(&mut self.chance, id);
        let header = Header { packet_type: PacketType::CallWithFds, ..self.header(&dish) };
        self.line.send(packet(header, &[&count.to_be_bytes()[..], &dish.arguments].concat()));
        for _ in 0..count {
            self.line.send_carrier(0);
        }
        // One that promises none is a call like any other.
        let expects = if count == 0 { dish.expects.clone() } else { refused(&["unsupported"]) };
        self.owes(header, Dish { expects, ..dish }, false);
    }

    /// Goes on sending while replies pile up.
    fn stops_reading(&mut self) {
        self.ledger.tally.fault("stopped reading");
        self.line.reads = false;
        for _ in 0..self.chance.within(1..40) {
            self.place += 1;
            let id = self.id();
            let dish = self.menu.big(&mut self.chance, id);
            self.call(dish);
        }
        let time = Duration::from_micros(self.chance.within(0..20_000));
        self.pump(time);
        self.line.reads = true;
    }

    /// Goes on in another format.
    fn changes_formats(&mut self, fault: &'static str) {
        self.ledger.tally.fault(fault);
        let bytes = lies::message_pack_rpc(&mut self.chance);
        let ending = lies::ending(&bytes).expect("it is no packet");
        self.lies(bytes, ending);
    }

    /// A call whose length is a few bytes more or less than it has.
    fn misjudges_a_length(&mut self) {
        self.ledger.tally.fault("length that is slightly wrong");
        let dish = self.menu.quick(&mut self.chance, 0);
        let header = self.header(&dish);
        let mut bytes = packet(header, &dish.arguments);
        let (whole, off) = (bytes.len(), 1 + self.chance.below(8));
        let is_short = self.chance.one_in(2);
        let length = if is_short { whole - off } else { whole + off };
        bytes[..4].copy_from_slice(&(length as u32).to_be_bytes());
        if !is_short {
            // What is missing is taken from the packet behind it.
            let next = self.menu.quick(&mut self.chance, 0);
            bytes.extend(packet(self.header(&next), &next.arguments));
        }
        let (ending, is_whole) = match lies::ending(&bytes[length..]) {
            Some(ending) => (ending, true),
            // What is left of the next one would be owed an answer: it does not come.
            None => {
                bytes.truncate(whole);
                ("packet_timeout", false)
            }
        };
        if is_whole {
            // A thread that ends takes async calls along.
            let is_safe = dish.expects.codes.is_empty();
            let codes: &[_] = if is_safe { &["invalid_arguments"] } else { &["invalid_arguments", "internal"] };
            let expects = Expects { result: None, codes, ..dish.expects };
            self.owes(header, Dish { expects, ..dish }, false);
        }
        self.lies(bytes, ending);
    }

    /// Sends bytes that the service closes the connection for, saying this.
    fn lies(&mut self, bytes: Vec<u8>, ending: &'static str) {
        self.provoked = Some(ending);
        self.is_within_packet = true;
        self.line.send(bytes);
        self.waits_for_the_end(true);
    }

    /// Some but not all bytes of a call.
    fn sends_half_a_packet(&mut self) {
        let dish = self.menu.quick(&mut self.chance, 0);
        let mut bytes = packet(self.header(&dish), &dish.arguments);
        bytes.truncate(1 + self.chance.below(bytes.len() - 1));
        self.line.send(bytes);
        self.is_within_packet = true;
    }

    /// Sends and reads. Whether something came that settles something: the service's own pings go on for ever, also
    /// where a reply is lost.
    fn pump(&mut self, wait: Duration) -> bool {
        let mut has_settled = false;
        for mut packet in self.line.pump(wait) {
            if packet.header.procedure == messages::RESPONSE.procedure {
                // Who gets a response knows what was called by its id.
                let called = self.ledger.header(packet.header.serial);
                let called = called.unwrap_or_else(|| panic!("a response to no request, or a second one: {packet:?}"));
                packet.header = called.reply(packet.header.status);
            }
            has_settled |= self.ledger.packet(&packet, self.weather);
        }
        for _ in 0..std::mem::take(&mut self.ledger.pings) {
            // Behind half a packet it would be the other half.
            if !self.is_within_packet {
                self.line.send(keepalive::pong().to_vec());
            }
        }
        if self.ledger.told.is_some() {
            // It has said all that it will say; it waits for us to end.
            self.line.forget_output();
            self.line.half_close();
        }
        has_settled
    }

    /// Until everything is answered.
    fn waits_for_answers(&mut self) {
        let mut heard = Instant::now();
        while !(self.is_over() || self.ledger.is_settled() && self.line.has_sent_all()) {
            if self.pump(Duration::from_millis(50)) {
                heard = Instant::now();
            }
            self.is_patient(heard);
        }
    }

    /// Until the service has ended the connection; whether it has to say why.
    fn waits_for_the_end(&mut self, has_reason: bool) {
        let mut heard = Instant::now();
        while self.line.end.is_none() {
            if self.pump(Duration::from_millis(50)) {
                heard = Instant::now();
            }
            self.is_patient(heard);
        }
        if has_reason && self.ledger.told.is_none() {
            let number = self.number;
            assert!(self.is_excused(), "guest {number}: the service did not say why it closed; {:?}", self.line);
        }
    }

    fn is_patient(&self, heard: Instant) {
        if heard.elapsed() > PATIENCE && !self.weather.is_killed() {
            panic!("guest {}: nothing was settled for {PATIENCE:?}; {}", self.number, self.ledger.open());
        }
    }

    /// Whether it may have been cut without a word, and calls may have been lost with that.
    fn is_excused(&self) -> bool {
        // A service that stops has no word for those whom only the kernel has let in.
        let is_unmet = self.weather.is_stopping() && !self.line.is_accepted;
        self.weather.is_killed() || self.was_slow() || is_unmet
    }

    /// Whether it has left replies unread for about `write_timeout`. The service counts from the last byte that it could
    /// write, which may be a while before the guest last read.
    fn was_slow(&self) -> bool {
        self.line.unread > WRITE_TIMEOUT / 2
    }

    /// The service has closed the connection, or says that it will.
    fn settles(&mut self) {
        self.waits_for_the_end(false);
        let number = self.number;
        let was_neglected = self.line.neglected > PACKET_TIMEOUT / 2;
        let Some(told) = &self.ledger.told else {
            if self.is_excused() {
                self.ledger.tally.outcome("[cut]");
                return;
            }
            assert_eq!(self.line.end, Some(End::Closed), "guest {number}: {}", self.ledger.open());
            assert!(self.ledger.is_settled(), "guest {number}: closed without a reason; {}", self.ledger.open());
            return;
        };
        let code = told.code().as_str();
        if self.provoked == Some(code) {
            assert!(
                self.ledger.open_calls() == 0 || self.is_excused(),
                "guest {number}: closed by {told:?} before all was answered; {}",
                self.ledger.open()
            );
            return;
        }
        let is_allowed = match code {
            "shutting_down" => self.weather.is_stopping(),
            "overloaded" => told.limit().is_some_and(|(limit, _)| matches!(limit, "max_clients" | "nofile")),
            "packet_timeout" => self.dawdles || was_neglected,
            "keepalive_timeout" => self.was_slow() || was_neglected || self.is_within_packet,
            _ => false,
        };
        assert!(
            is_allowed || self.is_excused(),
            "guest {number} ({:?}, provoked {:?}): closed for no reason of its own: {told:?}",
            self.line,
            self.provoked
        );
    }
}

fn refused(codes: &'static [&'static str]) -> Expects {
    Expects { codes, ..Expects::default() }
}
