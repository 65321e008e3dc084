//! Fuzzing over the socket: one client after the other sends a stream that was made at random ([`grammar`]) or lies in
//! `corpus/` ([`corpus`]), and a second, naive reading of the stream says what it must be answered.
//!
//! After each case another client's call is answered; the service never panics, and it does not grow.

mod corpus;
mod grammar;
mod target;

// The naive reading of a stream that the tests of the splitter use.
#[allow(dead_code)]
#[path = "../../../protocol/tests/support/model.rs"]
pub mod model;
// And that of the tests of the scanner.
#[allow(dead_code)]
#[path = "../../../protocol/tests/support/rpc_model.rs"]
mod rpc_model;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use postroom::{Address, Error};
use postroom_protocol::rpc::{MessageType, ScanError};
use postroom_protocol::{Header, PacketType, Status, codec, keepalive};
use rmpv::Value;

use crate::chance::Chance;
use crate::line::{End, Line};
use crate::messages::RESPONSE;
use crate::meter::Meter;
use crate::support::{Client, Packet, encode};
use crate::tally::Tally;
use crate::{settings, witness};
use model::{Seen, model};
use target::{MIRROR, TARGET};

/// `max_packet` of the service: small, so that streams reach it.
pub const MAX_PACKET: u32 = 4096;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// After so many cases the service must be as it was before them.
const ROUND: u64 = 500;
/// What it may hold more than after its first round: buffers that it keeps.
const SLACK: isize = 1 << 20;

/// One stream of bytes, and how it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    pub stream: Vec<u8>,
    /// The lengths of its writes, again and again; none: all at once.
    pub portions: Vec<usize>,
    /// Whether bytes that have to carry descriptors do not.
    pub withholds_fds: bool,
    /// Whether the client ends its input behind it; else the service has to close by itself.
    pub half_closes: bool,
}

#[test]
fn fuzz_streams_of_every_shape_get_what_they_are_owed_and_leave_nothing() {
    let _alone = settings::alone();
    witness::call();
    let seed = settings::seed();
    let time = settings::fuzz_time();
    println!("fuzzing: POSTROOM_SEED={seed}, {time:?}");
    let mut tally = Tally::default();
    let (service, _folder) = target::start();
    let address = service.addresses()[0].clone();
    let mut other = Client::connect(&address);
    let start = Instant::now();
    let mut at_rest: Option<Meter> = None;
    let (mut cases, mut grown) = (0, 0);
    while start.elapsed() < time || at_rest.is_none() {
        for number in cases..cases + ROUND {
            let case = grammar::case(&mut Chance::new(seed, number));
            check(&address, &case, &format!("POSTROOM_SEED={seed}, case {number}"), &mut tally);
            is_served(&mut other, number);
        }
        cases += ROUND;
        witness::saw_no_other_panic();
        witness::forget_incidents();
        is_at_rest(&service);
        match at_rest {
            None => at_rest = Some(Meter::read()),
            Some(at_rest) => {
                grown = at_rest.is_reached_again("the service is as it was after the first round", SLACK, 0)
            }
        }
    }
    drop(other);
    assert!(service.stop().is_clean());
    witness::saw_no_other_panic();
    println!("seed {seed}: {cases} cases in {:?}, grown by {grown} bytes", start.elapsed());
    println!("{tally}");
}

#[test]
fn fuzz_the_corpus_gets_what_it_is_owed_however_it_is_cut() {
    let _alone = settings::alone();
    witness::call();
    let (service, _folder) = target::start();
    let address = service.addresses()[0].clone();
    let mut other = Client::connect(&address);
    let mut tally = Tally::default();
    let cases = corpus::all();
    assert!(cases.len() > 20, "the corpus is missing");
    for (name, case) in &cases {
        for portions in [vec![], vec![1], vec![28], vec![5, 100]] {
            check(&address, &Case { portions, ..case.clone() }, name, &mut tally);
            is_served(&mut other, 7);
        }
    }
    drop(other);
    is_at_rest(&service);
    assert!(service.stop().is_clean());
    witness::saw_no_other_panic();
    println!("the corpus, {} streams:\n{tally}", cases.len());
}

/// The call of another client is answered.
fn is_served(other: &mut Client, number: u64) {
    let value = other.call(TARGET, MIRROR, &encode(&number));
    assert_eq!(value, Value::from(number));
}

/// All clients but at most one have gone, and nothing is in progress.
fn is_at_rest(service: &postroom::Running) {
    crate::support::eventually("the clients have gone", || {
        let stats = service.stats();
        let in_progress: u64 = stats.procedures.iter().map(|procedure| procedure.in_progress).sum();
        (stats.clients.connected <= 1, stats.clients.gone, in_progress, stats.pending.calls) == (true, 0, 0, 0)
    });
}

/// What a stream is owed.
struct Owed {
    /// Replies by the header of their call, status aside, and what they may be.
    replies: HashMap<(u32, u32, i32, u32), Vec<Answer>>,
    pongs: u64,
    /// An answer that may come too: nobody can tell from outside whether it came already.
    may_come: Option<Header>,
    /// The code by which the connection is closed.
    closed_by: Option<&'static str>,
}

/// What a call is to be answered.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    /// Whatever its handler says, or whoever refuses it.
    Any,
    Code(&'static str),
}

impl Owed {
    fn by(stream: &[u8]) -> Self {
        let mut owed = Self { replies: HashMap::new(), pongs: 0, may_come: None, closed_by: None };
        if speaks_messages(stream) {
            owed.by_messages(stream);
            return owed;
        }
        for seen in model(stream, MAX_PACKET).0 {
            match seen {
                Seen::Packet { header, fds, .. } if header.is_call() => {
                    let exists = header.status == Status::Ok && header.program == TARGET && header.version == 1;
                    let exists = exists && (1..=target::PROCEDURES).contains(&header.procedure);
                    owed.reply(&header, if fds > 0 && exists { Answer::Code("unsupported") } else { Answer::Any });
                }
                Seen::Packet { header, .. } => {
                    owed.pongs += u64::from(keepalive::classify(&header) == Some(keepalive::Keepalive::Ping));
                }
                Seen::TooLarge { header, skipped, .. } => {
                    if header.is_call() {
                        owed.reply(&header, Answer::Code("too_large"));
                    }
                    if !skipped {
                        owed.closed_by = Some("too_large");
                    }
                }
                Seen::Error(error) => {
                    if let Some(header) = error.header().filter(|header| header.is_call()) {
                        owed.reply(header, Answer::Code("protocol"));
                    }
                    owed.closed_by = Some("protocol");
                }
            }
        }
        owed
    }

    /// What messages of MessagePack-RPC are owed.
    fn by_messages(&mut self, stream: &[u8]) {
        let response = |msgid| Header { serial: msgid, ..RESPONSE };
        let mut was_refused = false;
        for seen in rpc_model::model(stream, MAX_PACKET) {
            match seen {
                rpc_model::Seen::Message(bytes) => match judge(&bytes) {
                    Judged::Answered(msgid, answer) => self.reply(&response(msgid), answer),
                    Judged::Silent => {}
                    Judged::Closed => {
                        self.closed_by = Some("protocol");
                        return;
                    }
                },
                rpc_model::Seen::TooLarge(too_large) => {
                    let head = too_large.head;
                    if let Some(msgid) = head.answerable() {
                        self.reply(&response(msgid), Answer::Code("too_large"));
                    }
                    let is_known = head.answerable().is_some()
                        || matches!(head.message_type, Some(MessageType::Response | MessageType::Notification));
                    if !too_large.skipped || !is_known {
                        self.closed_by = Some("too_large");
                        return;
                    }
                    was_refused = true;
                    continue;
                }
                rpc_model::Seen::Error(error) => {
                    let code = if matches!(error, ScanError::TooLong { .. }) { "too_large" } else { "protocol" };
                    if let Some(msgid) = error.head().answerable() {
                        match was_refused {
                            true => self.may_come = Some(response(msgid)),
                            false => self.reply(&response(msgid), Answer::Code(code)),
                        }
                    }
                    self.closed_by = Some(code);
                }
            }
            was_refused = false;
        }
    }

    fn reply(&mut self, header: &Header, answer: Answer) {
        self.replies.entry(key(header)).or_default().push(answer);
    }

    /// A packet has come; true if it is the announced close.
    fn takes(&mut self, packet: &Packet, tally: &mut Tally) -> bool {
        if packet.header.packet_type == PacketType::Event {
            assert_eq!(keepalive::classify(&packet.header), Some(keepalive::Keepalive::Pong), "{packet:?}");
            self.pongs = self.pongs.checked_sub(1).expect("a pong for no ping");
            return false;
        }
        assert_eq!(packet.header.packet_type, PacketType::Reply, "{packet:?}");
        let error = (packet.header.status == Status::Error).then(|| Error::decode(&packet.payload).unwrap());
        let code = error.as_ref().map_or("ok", |error| error.code().as_str());
        tally.outcome(code);
        if error.is_none() {
            codec::decode::<Value>(&packet.payload).unwrap_or_else(|error| panic!("{error}: {packet:?}"));
        }
        // Nothing here panics, so nothing may say that it did.
        assert_ne!(code, "internal", "{packet:?}: {error:?}");
        let Some(answers) = self.replies.get_mut(&key(&packet.header)) else {
            if self.may_come.take_if(|header| key(header) == key(&packet.header)).is_some() {
                assert_eq!(Some(code), self.closed_by, "{error:?}");
                return false;
            }
            assert_eq!(packet.header, Header::ANNOUNCEMENT, "a reply to no call: {packet:?}, {error:?}");
            assert_eq!(Some(code), self.closed_by, "{error:?}");
            return true;
        };
        // Several calls may have the same header; the strictest answer that this may be is taken.
        let fits = answers.iter().position(|answer| *answer == Answer::Code(error_code(code)));
        let fits = fits.or_else(|| answers.iter().position(|answer| *answer == Answer::Any));
        let Some(fits) = fits else { panic!("{packet:?}, {error:?}, is none of {answers:?}") };
        answers.remove(fits);
        if answers.is_empty() {
            self.replies.remove(&key(&packet.header));
        }
        false
    }
}

/// Whether the service takes a stream for messages.
fn speaks_messages(stream: &[u8]) -> bool {
    matches!(stream.first(), Some(0x93 | 0x94))
}

/// What a whole message gets.
enum Judged {
    Answered(u32, Answer),
    /// A notification, or a response.
    Silent,
    /// Nobody can tell what it is.
    Closed,
}

fn judge(message: &[u8]) -> Judged {
    let value = rmpv::decode::read_value(&mut &message[..]).expect("the scanner takes it for a value");
    let parts = value.as_array().expect("the scanner takes it for an array");
    match (parts[0].as_u64(), parts.len()) {
        (Some(1 | 2), _) => Judged::Silent,
        (Some(0), 4) => match parts[1].as_u64().and_then(|msgid| u32::try_from(msgid).ok()) {
            Some(msgid) if parts[2].as_str().is_none() => Judged::Answered(msgid, Answer::Code("protocol")),
            Some(msgid) => Judged::Answered(msgid, Answer::Any),
            None => Judged::Closed,
        },
        _ => Judged::Closed,
    }
}

/// Where in a stream bytes end that have to carry descriptors.
fn carriers(stream: &[u8]) -> Vec<usize> {
    if speaks_messages(stream) { Vec::new() } else { model(stream, MAX_PACKET).1 }
}

/// The codes that may be owed, which live as long as the program.
fn error_code(code: &str) -> &'static str {
    ["unsupported", "too_large", "protocol"].into_iter().find(|known| *known == code).unwrap_or("")
}

fn key(header: &Header) -> (u32, u32, i32, u32) {
    (header.program, header.version, header.procedure, header.serial)
}

/// Sends a case, and checks that it gets what it is owed. Prints the case if not.
fn check(address: &Address, case: &Case, name: &str, tally: &mut Tally) {
    struct Shown<'a>(&'a Case, &'a str);
    impl Drop for Shown<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("{}, as a file of the corpus:\n{}", self.1, corpus::text(self.0));
            }
        }
    }
    let _shown = Shown(case, name);
    run(address, case, tally);
}

fn run(address: &Address, case: &Case, tally: &mut Tally) {
    let mut owed = Owed::by(&case.stream);
    // Whoever does not send the descriptors that a packet needs gets `protocol` from there on, wherever that is.
    let is_predicted = !case.withholds_fds || carriers(&case.stream).is_empty();
    tally.clients += 1;
    tally.calls += owed.replies.values().map(Vec::len).sum::<usize>() as u64;
    if owed.closed_by.is_some() {
        tally.fault("stream that ends the connection");
    }
    if !is_predicted {
        tally.fault("descriptors withheld");
    }
    if speaks_messages(&case.stream) {
        tally.fault("stream of MessagePack-RPC");
    }
    let mut line = Line::connect(address).unwrap();
    sends(&mut line, case);
    let mut told = false;
    let mut heard = Instant::now();
    while line.end.is_none() {
        for packet in line.pump(Duration::from_millis(100)) {
            heard = Instant::now();
            assert!(!told, "behind the announced close: {packet:?}");
            if is_predicted {
                told = owed.takes(&packet, tally);
            } else {
                let error = (packet.header.status == Status::Error).then(|| packet.error());
                assert!(error.is_none_or(|error| error.code() != "internal"), "{packet:?}");
            }
        }
        if told && !case.half_closes {
            line.half_close();
        }
        assert!(heard.elapsed() < PATIENCE, "nothing comes any more; owed: {:?}, told: {told}", owed.replies);
    }
    assert_eq!(line.end, Some(End::Closed));
    if is_predicted {
        assert!(owed.replies.is_empty() && owed.pongs == 0, "not answered: {:?}, {} pongs", owed.replies, owed.pongs);
        assert_eq!(told, owed.closed_by.is_some(), "{:?}", owed.closed_by);
    }
}

/// Queues the stream, with descriptors where they belong.
fn sends(line: &mut Line, case: &Case) {
    let carriers = if case.withholds_fds { Vec::new() } else { carriers(&case.stream) };
    let mut carriers = carriers.into_iter().peekable();
    let mut portions = case.portions.iter().copied().cycle();
    let mut at = 0;
    while at < case.stream.len() {
        if carriers.next_if_eq(&(at + 1)).is_some() {
            line.send_carrier(case.stream[at]);
            at += 1;
            continue;
        }
        let until = carriers.peek().map_or(case.stream.len(), |end| end - 1);
        let end = until.min(at + portions.next().unwrap_or(usize::MAX - at));
        line.send(case.stream[at..end].to_vec());
        at = end;
    }
    if case.half_closes {
        line.half_close();
    }
}
