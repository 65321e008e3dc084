//! The oracle of one connection: what the service owes its client, and whether what comes is what is owed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use postroom::Error;
use postroom_protocol::{Header, PacketType, Status, codec, keepalive};
use rmpv::Value;

use crate::menu::Expects;
use crate::support::Packet;
use crate::tally::Tally;
use crate::witness::{self, Incident};

/// What happens to the service as a whole, and excuses what it would be blamed for otherwise.
#[derive(Debug, Default)]
pub struct Weather {
    /// It is told to stop.
    pub is_stopping: AtomicBool,
    /// It is killed, and owes nothing any more.
    pub is_killed: AtomicBool,
    /// Whether handlers may end their threads. A call whose handler was being started there for it goes down with it:
    /// nobody can tell then whether it was that start that ended the thread.
    pub may_end_threads: bool,
    /// Whether it logs into this process.
    pub is_in_process: bool,
}

impl Weather {
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(SeqCst)
    }

    pub fn is_killed(&self) -> bool {
        self.is_killed.load(SeqCst)
    }
}

#[derive(Debug)]
struct Owed {
    header: Header,
    expects: Expects,
    was_cancelled: bool,
    has_deadline: bool,
}

/// What is owed to one client.
#[derive(Debug, Default)]
pub struct Ledger {
    owed: HashMap<u32, Owed>,
    /// The number that the service gives this client, once the log has told it.
    client_id: Option<u64>,
    pongs: u64,
    /// Why the service closes the connection.
    pub told: Option<Error>,
    /// Whether calls may have the deadline of the connection.
    has_deadline: bool,
    /// Pings of the service that are to be answered.
    pub pings: u64,
    pub tally: Tally,
}

impl Ledger {
    /// A call is sent.
    pub fn call(&mut self, header: Header, expects: Expects, has_deadline: bool) {
        self.tally.calls += 1;
        let has_deadline = has_deadline || self.has_deadline;
        let owed = Owed { header, expects, was_cancelled: false, has_deadline };
        assert!(self.owed.insert(header.serial, owed).is_none(), "a serial is used twice at once");
    }

    /// Calls sent from now on may have a deadline that they do not say.
    pub fn has_deadline(&mut self) {
        self.has_deadline = true;
    }

    /// A cancel packet for this serial is sent, whether it is answered already or not.
    pub fn cancel(&mut self, serial: u32) {
        if let Some(owed) = self.owed.get_mut(&serial) {
            owed.was_cancelled = true;
        }
    }

    pub fn header(&self, serial: u32) -> Option<Header> {
        self.owed.get(&serial).map(|owed| owed.header)
    }

    pub fn ping(&mut self) {
        self.pongs += 1;
    }

    pub fn is_settled(&self) -> bool {
        self.owed.is_empty() && self.pongs == 0
    }

    /// How many calls are not answered.
    pub fn open_calls(&self) -> usize {
        self.owed.len()
    }

    /// A few of the calls that are not answered, for a person.
    pub fn open(&self) -> String {
        let some: Vec<_> = self.owed.values().take(5).collect();
        format!("{} calls and {} pings are not answered, such as {some:#?}", self.owed.len(), self.pongs)
    }

    /// A packet has come. Whether it settles something that was owed, or all.
    pub fn packet(&mut self, packet: &Packet, weather: &Weather) -> bool {
        assert!(self.told.is_none(), "behind the announced close: {packet:?}");
        if packet.header == Header::ANNOUNCEMENT {
            let error = packet.error();
            self.tally.outcome(&format!("[closed: {}]", error.code()));
            self.told = Some(error);
            return true;
        }
        match packet.header.packet_type {
            PacketType::Reply => self.reply(packet, weather),
            PacketType::Event => match keepalive::classify(&packet.header) {
                Some(keepalive::Keepalive::Pong) => {
                    self.pongs = self.pongs.checked_sub(1).expect("a pong for no ping");
                }
                Some(keepalive::Keepalive::Ping) => {
                    self.pings += 1;
                    return false;
                }
                None => panic!("an event that nobody asked for: {packet:?}"),
            },
            other => panic!("a packet of type {other:?}: {packet:?}"),
        }
        true
    }

    fn reply(&mut self, packet: &Packet, weather: &Weather) {
        let Some(owed) = self.owed.remove(&packet.header.serial) else {
            panic!("a reply to no call, or a second one: {packet:?}");
        };
        assert_eq!(packet.header, owed.header.reply(packet.header.status), "a reply that is not to its call");
        match packet.header.status {
            Status::Ok => {
                let value: Value = codec::decode(&packet.payload).expect("a result decodes");
                let Some((id, data)) = owed.expects.result else { panic!("a result, {value}, for {owed:?}") };
                if let Some(id) = id {
                    assert_eq!(value["id"].as_u64(), Some(id), "another call's result, {value}, for {owed:?}");
                }
                if let (Some(length), Some(id)) = (data, id) {
                    let data = value["data"].as_slice().expect("the data");
                    assert!(data.len() == length && data.iter().all(|byte| *byte == id as u8), "{value} for {owed:?}");
                }
                self.tally.outcome("ok");
            }
            Status::Error => {
                let error = Error::decode(&packet.payload).expect("an error decodes");
                self.tally.outcome(error.code().as_str());
                self.judge(&owed, &error, weather);
            }
            other => panic!("a reply with status {other:?}"),
        }
    }

    /// Whether an error is one that the call may be answered.
    fn judge(&mut self, owed: &Owed, error: &Error, weather: &Weather) {
        let is_allowed = match error.code().as_str() {
            "cancelled" => owed.was_cancelled,
            "deadline_exceeded" => owed.has_deadline,
            "shutting_down" => weather.is_stopping(),
            "overloaded" => {
                owed.expects.is_pooled && error.limit().is_some_and(|(limit, _)| limit.starts_with("max_pending"))
            }
            _ => false,
        };
        let is_expected = owed.expects.codes.iter().any(|code| error.code() == code);
        let logged = error.incident().and_then(witness::incident);
        let went_down = self.went_down_with_its_thread(weather, logged.as_ref());
        assert!(is_allowed || is_expected || went_down, "{error:?} is no answer to {owed:?}; the log: {logged:?}");
        if matches!(error.code().as_str(), "out_of_water" | "tea") {
            assert_eq!(named_call(error.message()), owed.expects.id, "another call's {error:?} for {owed:?}");
        }
        if error.code() == "internal" {
            let incident = error.incident().expect("`internal` comes with an incident");
            assert!(!error.message().contains("as asked"), "the cause is not for clients: {error:?}");
            if weather.is_in_process {
                let Some(logged) = logged else { panic!("the log does not know incident {incident}: {error:?}") };
                self.is_of_this_call(owed, error, &logged);
            }
        }
    }

    /// What the log says under the incident that a call was told is of that very call.
    fn is_of_this_call(&mut self, owed: &Owed, error: &Error, logged: &Incident) {
        if error.retry_after_ms().is_some() {
            // Its handler is left alone for a while: that is the incident of the call that it failed last.
            return;
        }
        let Some(call) = logged.call else { panic!("of no call: {logged:?}, for {owed:?}") };
        let client_id = *self.client_id.get_or_insert(call.client_id);
        let told = (call.client_id, call.serial);
        assert_eq!(told, (client_id, owed.header.serial), "another call's {logged:?} for {owed:?}");
        let named = named_call(&logged.text);
        assert!(named.is_none() || named == owed.expects.id, "another call's {logged:?} for {owed:?}");
    }

    fn went_down_with_its_thread(&self, weather: &Weather, logged: Option<&Incident>) -> bool {
        weather.may_end_threads && logged.is_some_and(|line| line.text.contains("ended while it started"))
    }
}

/// The call that a text names, as handlers under fire do.
fn named_call(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(" call ")?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}
