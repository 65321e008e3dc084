//! The state of a client against single events, and against a model under random schedules.

mod messages;

use postroom_protocol::{Metadata, PacketType, packet};
use proptest::prelude::*;

use super::*;
use crate::events::inlet::{Begin, Counts, To};
use crate::events::{Described, Kind, Overflow};
use crate::hub::Hubs;
use crate::hub::calls::{Calls, Ended};
use crate::job::ClientKey;
use crate::program::Codec;
use crate::stats::outcome::Verdict;

/// What a client started, by serial, and how much each call costs. Procedure 2 runs to its end, calls of procedure 3 with
/// nothing special need no record.
struct Started(Vec<(u32, u32)>, Vec<CallRef>, Calls);

const KEY: ClientKey = ClientKey { slot: 0, generation: 0 };

impl Default for Started {
    fn default() -> Self {
        Self(Vec::new(), Vec::new(), Calls::new(Arc::new(Hubs::new(1, 0)), 0))
    }
}

impl Started {
    fn serials(&self) -> Vec<u32> {
        self.0.iter().map(|(serial, _)| *serial).collect()
    }

    /// The handler of the call that started as this one begins.
    fn begin(&self, index: usize) -> bool {
        self.2.hubs().stages(0).begin(self.1[index])
    }

    /// Its result is there: whether the client waits for it.
    fn result(&mut self, index: usize, client: &mut Client, now: Instant) -> bool {
        let Some(finished) = self.2.finish(self.1[index]) else { return false };
        if finished.is_wanted {
            client.answered(Bytes::from_static(b"reply"), 1, finished.cost.into(), now);
        }
        if let Some(key) = finished.key {
            client.key_done(&key, self);
        }
        finished.is_wanted
    }
}

impl Sink for Started {
    fn find(&mut self, program: u32, version: u32, procedure: i32) -> Result<Found, Error> {
        if program == 1 {
            Ok(Found { entry: procedure as u32, codec: Codec::MessagePack })
        } else {
            Err(Error::unknown_program(program, version))
        }
    }

    /// `p.N` is procedure N of program 1; `x.N` speaks XDR.
    fn find_method(&self, method: &str) -> Result<Named, Error> {
        let (program, procedure) = method.split_once('.').unwrap_or_default();
        let codec = match program {
            "p" => Codec::MessagePack,
            "x" => Codec::Xdr,
            _ => return Err(Error::unknown_program_name(program)),
        };
        let Ok(procedure) = procedure.parse::<i32>() else {
            return Err(Error::unknown_procedure_name(program, 1, procedure));
        };
        Ok(Named { found: Found { entry: procedure as u32, codec }, program: 1, version: 1, procedure })
    }

    fn codec(&self, _: &Header) -> Codec {
        Codec::MessagePack
    }

    fn accept(&mut self, call: &Accept, place: Place) -> CallRef {
        self.2.accept(KEY, call, place)
    }

    fn accept_plain(&mut self, entry: u32) -> bool {
        entry == 3
    }

    fn moved(&mut self, call: CallRef, place: Place) {
        self.2.moved(call, place);
    }

    fn start(&mut self, call: Start<'_>) {
        self.0.push((call.accept.header.serial, call.accept.cost));
        self.1.push(call.call);
    }

    fn oldest(&self, header: &Header) -> Option<CallRef> {
        self.2.oldest(KEY, header)
    }

    fn unanswered(&self) -> Vec<(CallRef, bool)> {
        self.2.unanswered(KEY).into_iter().map(|(call, entry)| (call, entry == 2)).collect()
    }

    fn end(&mut self, call: CallRef, _: Verdict, _: Instant) -> Option<Ended> {
        self.2.end(call)
    }
}

fn header(packet_type: PacketType, serial: u32) -> Header {
    Header { program: 1, version: 1, procedure: 1, packet_type, serial, status: Status::Ok }
}

fn call(serial: u32, length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    packet::encode_packet(&header(PacketType::Call, serial), &vec![0; length], &mut out);
    out
}

/// A call that needs no record.
fn plain(serial: u32, length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let header = Header { procedure: 3, ..header(PacketType::Call, serial) };
    packet::encode_packet(&header, &vec![0; length], &mut out);
    out
}

fn keyed(serial: u32, key: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    let metadata = Metadata { key: Some(key.into()), ..Metadata::default() };
    postroom_protocol::metadata::encode(&metadata, &mut payload);
    let mut out = Vec::new();
    packet::encode_packet(&header(PacketType::CallWithMetadata, serial), &payload, &mut out);
    out
}

fn cancel(serial: u32) -> Vec<u8> {
    let mut out = Vec::new();
    packet::encode_packet(&header(PacketType::Cancel, serial), &[], &mut out);
    out
}

fn limits() -> Limits {
    Limits { max_client_requests: 2, max_client_backlog: 3, ..Limits::default() }
}

fn client(limits: Limits, now: Instant) -> Client {
    Client::new(Peer::new(1, Transport::Unix, None), Rc::new(limits), Arc::new(Block::new(0)), now)
}

fn reply(client: &mut Client, cost: u32, now: Instant) {
    client.answered(Bytes::from_static(b"reply"), 1, u64::from(cost), now);
}

fn leave(client: &mut Client, now: Instant) {
    let length = client.output.len() as usize;
    client.wrote(length, now);
}

#[test]
fn calls_beyond_the_limit_wait_in_the_backlog_and_start_when_a_reply_has_left() {
    let now = Instant::now();
    let mut client = client(limits(), now);
    let mut started = Started::default();
    let input: Vec<u8> = (0..4).flat_map(|serial| call(serial, 0)).collect();
    client.feed(&input, 0, now, &mut started);
    assert_eq!(started.0, [(0, 28), (1, 28)]);
    assert_eq!(client.wants(), Wants::Input);
    // Answered is not enough: the reply has to leave.
    reply(&mut client, 28, now);
    client.pump(now, &mut started);
    assert_eq!(started.0.len(), 2);
    leave(&mut client, now);
    client.pump(now, &mut started);
    assert_eq!(started.0, [(0, 28), (1, 28), (2, 28)]);
}

#[test]
fn a_call_without_a_record_counts_against_the_limits_like_any_other_and_has_one_when_it_waits() {
    let now = Instant::now();
    let mut client = client(Limits { max_client_output: 3000, ..limits() }, now);
    let mut started = Started::default();
    client.feed(&[plain(0, 100), plain(1, 0), plain(2, 0)].concat(), 0, now, &mut started);
    assert_eq!(started.0, [(0, 128), (1, 28)]);
    assert!(started.1.iter().all(|call| call.is_none()));
    let holds = client.holds();
    assert_eq!((holds.in_progress, holds.running_bytes, holds.backlog), (2, 156, 1));
    assert_eq!(started.unanswered().len(), 1);
    reply(&mut client, 128, now);
    leave(&mut client, now);
    client.pump(now, &mut started);
    assert_eq!(started.serials(), [0, 1, 2]);
    assert!(!started.1[2].is_none());
    // One packet more than its output allows is held.
    leave(&mut client, now);
    reply(&mut client, 28, now);
    reply(&mut client, 28, now);
    leave(&mut client, now);
    client.feed(&[plain(3, 5000), plain(4, 0)].concat(), 0, now, &mut started);
    assert_eq!((started.serials().len(), client.wants()), (4, Wants::Nothing));
}

#[test]
fn a_call_that_came_in_pieces_or_has_a_default_deadline_is_accepted_like_any_other() {
    let now = Instant::now();
    let mut client = client(limits(), now);
    let mut started = Started::default();
    let packet = plain(0, 0);
    client.feed(&packet[..10], 0, now, &mut started);
    client.feed(&packet[10..], 0, now, &mut started);
    client.set_default_deadline(Duration::from_secs(1));
    client.feed(&plain(1, 0), 0, now, &mut started);
    assert_eq!(started.serials(), [0, 1]);
    assert!(started.1.iter().all(|call| !call.is_none()));
}

#[test]
fn a_full_backlog_stops_reading_and_what_was_read_already_is_not_lost() {
    let now = Instant::now();
    let mut client = client(limits(), now);
    let mut started = Started::default();
    let input: Vec<u8> = (0..10).flat_map(|serial| call(serial, 0)).collect();
    client.feed(&input, 0, now, &mut started);
    assert_eq!(client.wants(), Wants::Nothing);
    assert_eq!(client.backlog.len(), 3);
    for _ in 0..10 {
        reply(&mut client, 28, now);
        leave(&mut client, now);
        client.pump(now, &mut started);
    }
    let serials: Vec<u32> = started.0.iter().map(|(serial, _)| *serial).collect();
    assert_eq!(serials, (0..10).collect::<Vec<_>>());
    assert_eq!(client.wants(), Wants::Input);
    assert!(client.unsplit.is_none());
}

#[test]
fn a_ping_is_answered_while_calls_wait() {
    let now = Instant::now();
    let mut client = client(limits(), now);
    let mut started = Started::default();
    let input: Vec<u8> = (0..4).flat_map(|serial| call(serial, 0)).chain(keepalive::ping()).collect();
    client.feed(&input, 0, now, &mut started);
    assert_eq!(client.output.len(), 28);
}

#[test]
fn running_bytes_hold_a_client_until_they_are_answered_and_one_call_may_exceed_the_bound() {
    let now = Instant::now();
    let mut client = client(Limits { max_client_output: 1024, ..Limits::default() }, now);
    let mut started = Started::default();
    client.feed(&call(0, 5000), 0, now, &mut started);
    assert_eq!(started.0.len(), 1);
    assert_eq!(client.wants(), Wants::Nothing);
    reply(&mut client, 5028, now);
    assert_eq!(client.wants(), Wants::Input);
}

#[test]
fn no_time_runs_against_a_packet_while_the_client_is_held() {
    let now = Instant::now();
    let limits = Limits { max_client_requests: 1, max_client_backlog: 1, ..Limits::default() };
    let timeout = limits.packet_timeout;
    let mut client = client(limits, now);
    let mut started = Started::default();
    let mut input = call(0, 0);
    input.extend(call(1, 0));
    input.extend(&call(2, 100)[..50]);
    client.feed(&input, 0, now, &mut started);
    assert_eq!((client.wants(), client.deadline()), (Wants::Nothing, None));
    let later = now + 10 * timeout;
    client.expire(later);
    reply(&mut client, 28, later);
    leave(&mut client, later);
    client.pump(later, &mut started);
    assert_eq!(client.deadline(), Some(later + timeout));
    client.expire(later + timeout);
    assert_eq!(client.wants(), Wants::Nothing);
    assert!(matches!(&client.phase, Phase::Closing(Some(error)) if error.code().as_str() == "packet_timeout"));
}

#[test]
fn each_packet_has_its_own_time() {
    let now = Instant::now();
    let mut client = client(Limits::default(), now);
    let timeout = client.limits.packet_timeout;
    let mut started = Started::default();
    let bytes = call(0, 10);
    let half = timeout / 2;
    client.feed(&bytes[..5], 0, now, &mut started);
    assert_eq!(client.deadline(), Some(now + timeout.min(client.limits.first_packet_timeout)));
    let mut rest = bytes[5..].to_vec();
    rest.extend(&bytes[..5]);
    client.feed(&rest, 0, now + half, &mut started);
    assert_eq!(client.deadline(), Some(now + half + timeout));
    client.feed(&bytes[5..], 0, now + half, &mut started);
    assert_eq!(client.deadline(), None, "an idle client has no deadline");
}

#[test]
fn a_client_that_does_not_read_is_cut_and_any_byte_that_leaves_gives_it_new_time() {
    let now = Instant::now();
    let mut client = client(Limits::default(), now);
    let timeout = client.limits.write_timeout;
    let mut started = Started::default();
    client.feed(&call(0, 0), 0, now, &mut started);
    reply(&mut client, 28, now);
    client.wrote(1, now + timeout / 2);
    client.expire(now + timeout);
    assert!(!client.is_done());
    assert_eq!(client.deadline(), Some(now + timeout / 2 + timeout));
    client.expire(now + timeout / 2 + timeout);
    assert!(client.is_broken());
}

#[test]
fn a_malformed_stream_is_announced_after_the_calls_before_it_are_answered() {
    let now = Instant::now();
    let mut client = client(Limits::default(), now);
    let mut started = Started::default();
    let mut input = call(7, 0);
    input.extend([0, 0, 0, 27]);
    client.feed(&input, 0, now, &mut started);
    assert_eq!(client.next(now), Next::Go);
    assert!(client.output.is_empty(), "the announcement goes out last");
    reply(&mut client, 28, now);
    leave(&mut client, now);
    assert_eq!(client.next(now), Next::Go);
    assert!(!client.output.is_empty());
    leave(&mut client, now);
    assert_eq!(client.next(now), Next::ShutDown);
    assert_eq!(client.wants(), Wants::Discard);
    client.end_of_input();
    assert_eq!(client.next(now), Next::Done);
}

#[test]
fn a_client_that_goes_on_sending_after_its_close_is_dropped_after_a_while() {
    let now = Instant::now();
    let mut client = client(Limits::default(), now);
    client.close(Some(Error::shutting_down()));
    assert_eq!(client.next(now), Next::Go);
    leave(&mut client, now);
    assert_eq!(client.next(now), Next::ShutDown);
    assert_eq!(client.deadline(), Some(now + LINGER));
    client.expire(now + LINGER);
    assert!(client.is_done());
}

#[test]
fn after_the_end_of_input_all_calls_are_answered_also_those_in_the_backlog() {
    let now = Instant::now();
    let mut client = client(limits(), now);
    let mut started = Started::default();
    let input: Vec<u8> = (0..5).flat_map(|serial| call(serial, 0)).collect();
    client.feed(&input, 0, now, &mut started);
    client.end_of_input();
    for _ in 0..5 {
        assert_eq!(client.next(now), Next::Go);
        reply(&mut client, 28, now);
        leave(&mut client, now);
        client.pump(now, &mut started);
    }
    assert_eq!(started.0.len(), 5);
    assert_eq!(client.next(now), Next::Done);
}

#[test]
fn a_call_that_waits_in_the_backlog_is_cancelled_there_and_never_starts() {
    let now = Instant::now();
    let mut client = client(limits(), now);
    let mut started = Started::default();
    let input: Vec<u8> = (0..4).flat_map(|serial| call(serial, 0)).chain(cancel(2)).collect();
    client.feed(&input, 0, now, &mut started);
    assert_eq!((client.backlog.len(), client.backlog_bytes), (1, 28));
    assert!(!client.output.is_empty(), "its error");
    assert_eq!(client.in_progress, 2);
    leave(&mut client, now);
    for index in 0..2 {
        assert!(started.result(index, &mut client, now));
        leave(&mut client, now);
        client.pump(now, &mut started);
    }
    assert_eq!(started.serials(), [0, 1, 3]);
}

#[test]
fn a_call_that_was_cancelled_before_it_began_never_begins_and_one_that_runs_has_its_result_thrown_away() {
    let now = Instant::now();
    let mut client = client(limits(), now);
    let mut started = Started::default();
    client.feed(&[call(0, 0), call(1, 0)].concat(), 0, now, &mut started);
    assert!(started.begin(1));
    client.feed(&[cancel(0), cancel(1), cancel(1)].concat(), 0, now, &mut started);
    assert!(!started.begin(0));
    assert_eq!(client.in_progress, 2, "until their errors have left");
    leave(&mut client, now);
    assert_eq!((client.in_progress, client.running_bytes), (0, 0));
    assert!(!started.result(1, &mut client, now), "nobody waits for it");
    assert!(client.output.is_empty());
}

#[test]
fn calls_with_the_same_key_start_one_after_the_other_and_others_do_not_wait() {
    let now = Instant::now();
    let mut client = client(Limits::default(), now);
    let mut started = Started::default();
    let input = [keyed(0, "a"), keyed(1, "a"), keyed(2, "a"), keyed(3, "b"), call(4, 0)].concat();
    client.feed(&input, 0, now, &mut started);
    assert_eq!(started.serials(), [0, 3, 4]);
    client.feed(&cancel(1), 0, now, &mut started);
    assert!(started.result(0, &mut client, now));
    assert_eq!(started.serials(), [0, 3, 4, 2], "the one that was cancelled is passed over");
    assert!(started.result(3, &mut client, now));
    assert!(started.result(1, &mut client, now));
    assert!(client.keys.is_empty());
}

#[test]
fn a_call_with_a_key_waits_for_the_end_of_one_that_was_cancelled_while_it_ran() {
    let now = Instant::now();
    let mut client = client(Limits::default(), now);
    let mut started = Started::default();
    client.feed(&[keyed(0, "a"), keyed(1, "a")].concat(), 0, now, &mut started);
    assert!(started.begin(0));
    client.feed(&cancel(0), 0, now, &mut started);
    assert_eq!(started.serials(), [0]);
    assert!(!started.result(0, &mut client, now));
    assert_eq!(started.serials(), [0, 1]);
    // One that never began does not have to be waited for.
    client.feed(&[keyed(2, "a"), cancel(1)].concat(), 0, now, &mut started);
    assert_eq!(started.serials(), [0, 1, 2]);
}

#[test]
fn when_a_client_leaves_its_calls_end_but_for_those_that_run_to_their_end() {
    let now = Instant::now();
    let mut client = client(limits(), now);
    let mut started = Started::default();
    let runs_to_end = |serial| {
        let mut out = Vec::new();
        packet::encode_packet(&Header { procedure: 2, ..header(PacketType::Call, serial) }, &[], &mut out);
        out
    };
    client.feed(&[call(0, 0), runs_to_end(1), call(2, 0), runs_to_end(3)].concat(), 0, now, &mut started);
    client.broken();
    client.disconnect(now, &mut started);
    client.pump(now, &mut started);
    assert_eq!(started.serials(), [0, 1, 3]);
    assert!(!started.begin(0) && started.begin(1) && started.begin(2));
    assert_eq!(client.next(now), Next::Go);
    for index in [1, 2] {
        let finished = started.2.finish(started.1[index]).unwrap();
        client.answered_and_left(1, finished.cost.into(), now);
    }
    assert_eq!(client.next(now), Next::Done);
}

#[test]
fn a_silent_client_is_pinged_and_cut_and_any_packet_counts_as_an_answer() {
    let now = Instant::now();
    let limits = Limits { keepalive_interval: Duration::from_secs(2), keepalive_count: 2, ..Limits::default() };
    let mut client = client(limits, now);
    let mut started = Started::default();
    let at = |seconds| now + Duration::from_secs(seconds);
    client.feed(&call(0, 0), 0, now, &mut started);
    assert_eq!(client.deadline(), None, "it takes no part in keepalive");
    client.feed(&keepalive::pong(), 0, now, &mut started);
    assert_eq!(client.deadline(), Some(at(2)));
    for ping in 1..=2 {
        client.expire(at(2 * ping));
        assert_eq!(client.output.len(), 28);
        leave(&mut client, at(2 * ping));
    }
    client.feed(&call(1, 0), 0, at(5), &mut started);
    assert_eq!(client.deadline(), Some(at(7)));
    for ping in 1..=2 {
        client.expire(at(5 + 2 * ping));
        leave(&mut client, at(5 + 2 * ping));
    }
    assert_eq!(client.deadline(), Some(at(11)));
    client.expire(at(11));
    assert!(client.output.len() > 28, "it is told");
    assert_eq!(client.next(at(11)), Next::Go);
    assert!(client.is_broken());
}

#[test]
fn after_a_stall_each_ping_still_leaves_its_client_an_interval_to_answer() {
    let now = Instant::now();
    let limits = Limits { keepalive_interval: Duration::from_secs(2), keepalive_count: 2, ..Limits::default() };
    let mut client = client(limits, now);
    let mut started = Started::default();
    let at = |seconds| now + Duration::from_secs(seconds);
    client.feed(&keepalive::pong(), 0, now, &mut started);
    // The process was stopped for a minute.
    for ping in 0..2 {
        client.expire(at(60 + 2 * ping));
        assert_eq!(client.output.len(), 28, "a ping, and no more");
        leave(&mut client, at(60 + 2 * ping));
        assert_eq!(client.deadline(), Some(at(62 + 2 * ping)));
    }
    client.feed(&keepalive::pong(), 0, at(63), &mut started);
    assert_eq!(client.deadline(), Some(at(65)));
}

#[test]
fn no_keepalive_runs_against_a_client_that_is_held() {
    let now = Instant::now();
    let limits = Limits { max_client_requests: 1, max_client_backlog: 1, ..Limits::default() };
    let interval = limits.keepalive_interval;
    let mut client = client(limits, now);
    let mut started = Started::default();
    client.feed(&[keepalive::ping().to_vec(), call(0, 0), call(1, 0)].concat(), 0, now, &mut started);
    leave(&mut client, now);
    client.pump(now, &mut started);
    assert_eq!((client.wants(), client.deadline()), (Wants::Nothing, None));
    let later = now + 100 * interval;
    client.expire(later);
    assert!(started.result(0, &mut client, later));
    leave(&mut client, later);
    client.pump(later, &mut started);
    assert_eq!(client.deadline(), Some(later + interval));
}

#[test]
fn a_client_that_has_replies_to_read_is_not_pinged_behind_them() {
    let now = Instant::now();
    let limits = Limits { keepalive_interval: Duration::from_secs(2), keepalive_count: 1, ..Limits::default() };
    let mut client = client(limits, now);
    let mut started = Started::default();
    let at = |seconds| now + Duration::from_secs(seconds);
    client.feed(&[keepalive::pong().to_vec(), call(0, 0)].concat(), 0, now, &mut started);
    assert!(started.result(0, &mut client, now));
    for seconds in [2, 4, 6, 8] {
        client.expire(at(seconds));
        client.wrote(1, at(seconds));
        assert!(!client.is_gone() && client.output.len() < 28, "it reads, if slowly");
    }
    leave(&mut client, at(9));
    client.expire(at(10));
    assert_eq!(client.output.len(), 28, "a ping");
}

#[test]
fn a_client_without_calls_is_closed_after_the_idle_timeout_and_not_while_one_runs() {
    let now = Instant::now();
    let timeout = Duration::from_secs(10);
    let mut client = client(Limits { idle_timeout: timeout, ..Limits::default() }, now);
    let mut started = Started::default();
    client.feed(&call(0, 0), 0, now, &mut started);
    assert_eq!(client.deadline(), None);
    let later = now + 100 * timeout;
    assert!(started.result(0, &mut client, later));
    leave(&mut client, later);
    assert_eq!(client.deadline(), Some(later + timeout));
    client.expire(later + timeout);
    assert!(matches!(&client.phase, Phase::Closing(Some(error)) if error.code().as_str() == "idle_timeout"));
}

#[derive(Clone, Debug)]
enum Event {
    /// So many calls of such a length come, cut into portions of this size.
    Calls {
        count: usize,
        length: usize,
        portion: usize,
    },
    /// The oldest running call is answered.
    Answer,
    /// So many bytes leave.
    Leave(usize),
    Unknown,
    Ping,
    EndOfInput,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let calls = (1..20_usize, 0..200_usize, 1..300_usize);
    let event = prop_oneof![
        5 => calls.prop_map(|(count, length, portion)| Event::Calls { count, length, portion }),
        8 => Just(Event::Answer),
        8 => (1..100_usize).prop_map(Event::Leave),
        1 => Just(Event::Unknown),
        1 => Just(Event::Ping),
        1 => Just(Event::EndOfInput),
    ];
    prop::collection::vec(event, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: calls start in order and once, no bound is exceeded by more than one
    /// packet, the client is never stuck, and at the end everything that was sent was answered.
    #[test]
    fn no_call_is_lost_or_started_twice_and_the_bounds_hold(events in events()) {
        let now = Instant::now();
        let limits = Limits {
            max_client_requests: 4,
            max_client_backlog: 6,
            max_client_backlog_bytes: 1024,
            max_client_output: 1024,
            ..Limits::default()
        };
        let mut client = client(limits, now);
        let mut started = Started::default();
        // What the client has sent and the service has not read, as the kernel would hold it.
        let mut socket: VecDeque<Vec<u8>> = VecDeque::new();
        let mut sent = 0;
        let mut answered = 0;
        let mut ended = false;
        let mut step = |event: Option<Event>, client: &mut Client, started: &mut Started, socket: &mut VecDeque<Vec<u8>>| {
            match event {
                Some(Event::Calls { count, length, portion }) if !ended => {
                    let bytes: Vec<u8> = (0..count).flat_map(|n| call(sent + n as u32, length)).collect();
                    sent += count as u32;
                    socket.extend(bytes.chunks(portion).map(<[u8]>::to_vec));
                }
                Some(Event::Answer) => {
                    if let Some(&(_, cost)) = started.0.get(answered) {
                        answered += 1;
                        reply(client, cost, now);
                    }
                }
                Some(Event::Leave(bytes)) => {
                    let bytes = bytes.min(client.output.len() as usize);
                    client.wrote(bytes, now);
                }
                Some(Event::Unknown) if !ended => {
                    let mut unknown = Vec::new();
                    packet::encode_packet(&Header { program: 2, ..header(PacketType::Call, 0) }, &[], &mut unknown);
                    socket.push_back(unknown);
                }
                Some(Event::Ping) if !ended => socket.push_back(keepalive::ping().to_vec()),
                Some(Event::EndOfInput) => ended = true,
                _ => {}
            }
            client.pump(now, started);
            while client.wants() == Wants::Input {
                match socket.pop_front() {
                    Some(bytes) => client.feed(&bytes, 0, now, started),
                    None => {
                        if ended {
                            client.end_of_input();
                        }
                        break;
                    }
                }
            }
            client.next(now);
            (sent, answered)
        };
        for event in events {
            step(Some(event), &mut client, &mut started, &mut socket);
            prop_assert!(client.in_progress <= 4);
            prop_assert!(client.backlog.len() <= 6);
            prop_assert!(client.backlog_bytes <= 1024 + 228);
            prop_assert!(started.0.iter().enumerate().all(|(n, (serial, _))| *serial == n as u32));
        }
        // Everything that waits comes to its end when replies are written and read.
        step(Some(Event::EndOfInput), &mut client, &mut started, &mut socket);
        for _ in 0..20_000 {
            if client.is_done() {
                break;
            }
            step(Some(Event::Answer), &mut client, &mut started, &mut socket);
            step(Some(Event::Leave(1000)), &mut client, &mut started, &mut socket);
        }
        let (sent, answered) = step(None, &mut client, &mut started, &mut socket);
        prop_assert!(client.is_done(), "stuck: {client:?}");
        prop_assert_eq!((started.0.len(), answered), (sent as usize, sent as usize));
    }
}

#[test]
fn a_reply_is_behind_no_more_events_than_there_is_room_for_and_events_hold_no_calls() {
    let now = Instant::now();
    let mut client = client(Limits { max_client_output: 1024, ..Limits::default() }, now);
    let described = Described {
        name: "a.b".to_owned(),
        program: 1,
        version: 1,
        number: 1,
        value: Kind::of::<u64>(),
        codec: crate::program::Codec::MessagePack,
    };
    let begin = Begin {
        client: KEY,
        subscription: 1,
        event: 0,
        from: 0,
        overflow: Overflow::Disconnect,
        queue: 1000,
        serial: 1,
        ended: Arc::default(),
        counts: std::iter::once(Counts::default()).collect(),
    };
    assert!(client.subscribed(begin, &described));
    let value = Bytes::from(vec![0; 1000]);
    for number in 0..1000 {
        assert!(!client.offer_event(1, To::All(number), &value));
    }
    for _ in 0..2 {
        client.send_events(now);
        assert!((events::ROOM as u64..events::ROOM as u64 + 2000).contains(&client.output.len()));
    }
    assert_eq!(client.wants(), Wants::Input);
    assert!(client.has_events());
    // One more than its queue has room for, and it wants no gap.
    assert!((1000..2000).any(|number| client.offer_event(1, To::All(number), &value)));
    assert!(!client.has_events());
}
