//! The state of a client against single events, and against a model under random schedules.

use postroom_protocol::{PacketType, packet};
use proptest::prelude::*;

use super::*;

/// What a client started, by serial, and how much each call costs.
#[derive(Default)]
struct Started(Vec<(u32, u32)>);

impl Sink for Started {
    fn find(&self, header: &Header) -> Result<u32, Error> {
        if header.program == 1 { Ok(0) } else { Err(Error::unknown_program(header.program, header.version)) }
    }

    fn start(&mut self, call: Start<'_>) {
        self.0.push((call.header.serial, call.cost));
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

fn limits() -> Limits {
    Limits { max_client_requests: 2, max_client_backlog: 3, ..Limits::default() }
}

fn client(limits: Limits, now: Instant) -> Client {
    Client::new(Peer::new(1, Transport::Unix, None), Rc::new(limits), now)
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
    assert!(client.is_done());
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
