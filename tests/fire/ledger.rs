//! The oracle of one connection: what the service owes its client, and whether what comes is what is owed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use postroom::Error;
use postroom_protocol::{Header, PacketType, Status, codec, keepalive};
use rmpv::Value;

use crate::menu::Expects;
use crate::program::{FIRE, proc};
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
    /// Its `queue_target`; none is zero.
    pub queue_target: Duration,
    /// Its `poison_after`.
    pub poison_after: u32,
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
    /// Before it was sent, so before the service got it.
    sent: Instant,
    /// How many panics there had been then.
    panics: u64,
    /// Whether the very same call had panicked so often before that it has to be refused.
    is_poisoned: bool,
}

/// What is known of calls with the same procedure and the same arguments. Those that are not repeated have an id of
/// their own among their arguments.
#[derive(Debug, Default)]
struct Same {
    /// How many may have panicked: those that are not answered, were ended before their result, or did panic.
    may_have_panicked: u32,
    /// How many the client and the log know to have panicked.
    panicked: u32,
    /// How many panics there had been when the last of these was sent.
    last: u64,
}

/// As many calls that have panicked are remembered by a service; others than the latest of them are forgotten.
const REMEMBERED: u64 = 1024;

/// What is owed to one client.
#[derive(Debug, Default)]
pub struct Ledger {
    owed: HashMap<u32, Owed>,
    /// By procedure and id.
    same: HashMap<(i32, u64), Same>,
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
    pub fn call(&mut self, header: Header, expects: Expects, has_deadline: bool, weather: &Weather) {
        self.tally.calls += 1;
        let has_deadline = has_deadline || self.has_deadline;
        let mut is_poisoned = false;
        if let Some(id) = expects.id.filter(|_| expects.panics) {
            let same = self.same.entry((header.procedure, id)).or_default();
            same.may_have_panicked += 1;
            is_poisoned = weather.poison_after > 0 && same.panicked >= weather.poison_after;
        }
        let (sent, panics) = (Instant::now(), witness::asked_panics());
        let owed = Owed { header, expects, was_cancelled: false, has_deadline, sent, panics, is_poisoned };
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
                match error.limit() {
                    Some((limit @ "queue_target", _)) => self.tally.outcome(&format!("{} ({limit})", error.code())),
                    _ => self.tally.outcome(error.code().as_str()),
                }
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
            "overloaded" => owed.expects.is_pooled && may_be_refused(owed, error, weather),
            "poisoned" => self.may_be_poisoned(owed, error, weather),
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
                if logged.text.contains("the handler of") && logged.text.contains("panicked: as asked") {
                    self.has_panicked(owed, &logged);
                }
            }
        }
    }

    /// `poisoned` is right only for a call that has panicked as often before, for this client.
    fn may_be_poisoned(&mut self, owed: &Owed, error: &Error, weather: &Weather) -> bool {
        let Some(same) = owed.expects.id.and_then(|id| self.same.get_mut(&(owed.header.procedure, id))) else {
            return false;
        };
        // It has not panicked itself.
        same.may_have_panicked -= 1;
        weather.poison_after > 0
            && same.may_have_panicked >= weather.poison_after
            && error.limit() == Some(("poison_after", weather.poison_after.into()))
    }

    /// A call has panicked. It must not have come so far if it is one too many.
    fn has_panicked(&mut self, owed: &Owed, logged: &Incident) {
        let Some(same) = owed.expects.id.and_then(|id| self.same.get_mut(&(owed.header.procedure, id))) else { return };
        let is_remembered = witness::asked_panics() - same.last < REMEMBERED;
        assert!(!owed.is_poisoned || !is_remembered, "it was to be refused after {same:?}: {owed:?}, {logged:?}");
        same.panicked += 1;
        same.last = same.last.max(owed.panics);
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

/// Whether a call that needs a worker may be answered `overloaded` so.
fn may_be_refused(owed: &Owed, error: &Error, weather: &Weather) -> bool {
    let is_priority = (owed.header.program, owed.header.procedure) == (FIRE, proc::PRIORITY);
    match error.limit() {
        // What is shed has waited twice the target.
        Some(("queue_target", ms)) => {
            let target = weather.queue_target;
            let has_waited = owed.sent.elapsed() >= 2 * target;
            !target.is_zero() && u128::from(ms) == target.as_millis() && has_waited && !is_priority
        }
        Some((limit, _)) => limit.starts_with("max_pending"),
        None => false,
    }
}

/// The call that a text names, as handlers under fire do.
fn named_call(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(" call ")?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}
