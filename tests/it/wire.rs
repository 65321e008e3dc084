//! What a peer sends, and what it gets: every row of the table of the wire's documentation, over real sockets.

use std::time::Duration;

use postroom_protocol::{Header, PacketType, Status, keepalive};
use rmpv::Value;

use crate::support::*;

/// A call of `echo.mirror` that answers whatever it gets.
fn mirror(serial: u32, payload: &[u8]) -> Vec<u8> {
    call(ECHO, echo::MIRROR, serial, payload)
}

/// 28 bytes that claim a length of their own.
fn claim(length: u32, packet_type: PacketType, serial: u32) -> [u8; 28] {
    Header { packet_type, ..header(ECHO, 1, echo::ECHO, serial) }.encode(length)
}

/// Both kinds of sockets of one service.
fn both(service: &TestService) -> [Client; 2] {
    [service.client(), service.tcp_client()]
}

fn small() -> TestService {
    TestService::with_tcp(|config| config.limits.max_packet = 4096)
}

#[test]
fn a_length_under_28_is_an_announced_close() {
    let service = TestService::with_tcp(|_| {});
    for length in [27, 0, 3, 1] {
        for mut client in both(&service) {
            client.send(&u32::to_be_bytes(length));
            let error = client.announcement();
            assert_eq!(error.code(), "protocol");
            assert!(error.message().contains(&length.to_string()), "{error}");
        }
    }
}

#[test]
fn a_length_under_28_ends_the_connection_only_after_what_was_accepted_before() {
    let service = TestService::start();
    let mut client = service.client();
    let mut bytes = call(TEST, proc::GATE, 1, &map([("door", 1.into())]));
    bytes.extend([0, 0, 0, 5]);
    client.send(&bytes);
    service.gate().wait_for(1);
    client.silence(Duration::from_millis(50));
    service.gate().open(1);
    client.reply(1);
    assert_eq!(client.announcement().code(), "protocol");
}

#[test]
fn a_packet_over_the_limit_is_refused_once_its_header_is_there_and_the_connection_stays_usable() {
    let service = small();
    for mut client in both(&service) {
        for (serial, length) in [(1, 4097), (2, 16 * 4096), (3, 5000)] {
            client.send(&claim(length, PacketType::Call, serial));
            // The body is not sent yet.
            let packet = client.packet();
            let expected =
                Header { packet_type: PacketType::Reply, status: Status::Error, ..header(ECHO, 1, 1, serial) };
            assert_eq!(packet.header, expected);
            let error = packet.error();
            assert_eq!(error.code(), "too_large");
            assert_eq!(error.limit(), Some(("max_packet", 4096)));
            assert!(error.message().contains(&length.to_string()), "{error}");
            // What looks like a packet is a part of the body.
            let mut body = mirror(99, &encode(&99));
            body.resize(length as usize - 28, 0xff);
            client.send(&body);
            client.is_usable();
        }
    }
}

#[test]
fn a_packet_of_exactly_the_limit_is_served() {
    let service = small();
    for mut client in both(&service) {
        let data = vec![7; 4096 - 28 - 3];
        let payload = encode(&Value::Binary(data.clone()));
        assert_eq!(payload.len(), 4096 - 28);
        client.send(&mirror(1, &payload));
        assert_eq!(client.reply(1), Value::Binary(data));
    }
}

#[test]
fn a_packet_over_16_times_the_limit_is_refused_and_the_connection_closed() {
    let service = small();
    for length in [16 * 4096 + 1, u32::MAX] {
        for mut client in both(&service) {
            client.send(&mirror(1, &encode("before")));
            client.send(&claim(length, PacketType::Call, 2));
            // Two classes of procedures: which of the two comes first is not said.
            let mut packets = [client.packet(), client.packet()];
            packets.sort_by_key(|packet| packet.header.serial);
            packets[0].value();
            let error = packets[1].error();
            assert_eq!(error.code(), "too_large");
            assert_eq!(error.limit(), Some(("max_packet", 4096)));
            assert_eq!(client.announcement().code(), "too_large");
        }
    }
}

#[test]
fn a_body_that_is_skipped_and_still_being_sent_does_not_take_the_announcement_away() {
    let service = small();
    for mut client in both(&service) {
        client.send(&claim(u32::MAX, PacketType::Call, 2));
        // The client goes on with its body, not knowing better.
        let _ = client.try_send(&vec![0; 300_000]);
        assert_eq!(client.error(2).code(), "too_large");
        assert_eq!(client.announcement_while_sending().code(), "too_large");
    }
}

#[test]
fn an_event_over_the_limit_is_skipped_without_an_answer() {
    let service = small();
    let mut client = service.client();
    client.send(&claim(5000, PacketType::Event, 1));
    client.send(&vec![0; 5000 - 28]);
    client.is_usable();
}

#[test]
fn unknown_programs_versions_and_procedures_are_errors_with_the_same_header() {
    let service = TestService::with_tcp(|_| {});
    let cases = [
        (header(0xdead, 1, 1, 11), "unknown_program", "0x0000dead"),
        (header(0, 0, 0, 0), "unknown_program", "0x00000000"),
        (header(TEST, 3, 1, 12), "unknown_version", "1, 2"),
        (header(TEST, 0, 1, 13), "unknown_version", "1, 2"),
        (header(ECHO, 1, 99, 14), "unknown_procedure", "99"),
        (header(ECHO, 1, 0, 15), "unknown_procedure", "0"),
        (header(ECHO, 1, -1, 16), "unknown_procedure", "-1"),
        (header(TEST, 2, proc::GATE, u32::MAX), "unknown_procedure", "1"),
        (header(keepalive::PROGRAM, 1, 1, 17), "unknown_procedure", "1"),
    ];
    for mut client in both(&service) {
        for (header, code, says) in &cases {
            client.send(&packet(*header, &encode(&1)));
            let packet = client.packet();
            assert_eq!(packet.header, header.reply(Status::Error));
            let error = packet.error();
            assert_eq!(error.code(), code);
            assert!(error.message().contains(says), "{error}");
        }
        client.is_usable();
    }
}

#[test]
fn a_call_with_a_status_is_a_protocol_error_and_the_connection_is_kept() {
    let service = TestService::with_tcp(|_| {});
    for mut client in both(&service) {
        for status in [Status::Error, Status::Continue, Status::Unknown(-7)] {
            for packet_type in [PacketType::Call, PacketType::CallWithMetadata] {
                let header = Header { status, packet_type, ..header(ECHO, 1, echo::MIRROR, 5) };
                client.send(&packet(header, &[0x80, 0xc0]));
                assert_eq!(client.error(5).code(), "protocol");
            }
        }
        client.is_usable();
    }
}

#[test]
fn arguments_that_do_not_decode_are_answered_with_where() {
    let service = TestService::with_tcp(|_| {});
    for mut client in both(&service) {
        for procedure in [echo::ECHO, echo::QUICK] {
            let error = client.call_error(ECHO, procedure, &map([("id", "seven".into()), ("data", Value::Nil)]));
            assert_eq!(error.code(), "invalid_arguments");
            assert!(error.message().contains("id"), "{error}");
            let error = client.call_error(ECHO, procedure, &map([("id", 7.into())]));
            assert_eq!(error.code(), "invalid_arguments");
            assert!(error.message().contains("data"), "{error}");
            for garbage in [&[0xc1][..], &[0x92, 1], &[0xdf, 0xff, 0xff, 0xff, 0xff], &[0xc6, 0xff, 0xff, 0xff, 0xff]] {
                let error = client.call_error(ECHO, procedure, garbage);
                assert_eq!(error.code(), "invalid_arguments", "{garbage:x?}");
                assert!(error.message().contains("offset"), "{garbage:x?}: {error}");
            }
        }
        let error = client.call_error(ECHO, echo::SLEEP, &map([("ms", (-1).into())]));
        assert_eq!(error.code(), "invalid_arguments");
        client.is_usable();
    }
}

#[test]
fn bytes_behind_the_arguments_are_an_error() {
    let service = TestService::start();
    let mut client = service.client();
    for procedure in [echo::ECHO, echo::QUICK, echo::MIRROR] {
        let mut payload = parcel(1, b"x");
        payload.push(0xc0);
        let error = client.call_error(ECHO, procedure, &payload);
        assert_eq!(error.code(), "invalid_arguments");
    }
    for nothing in [&[0xc0, 0xc0][..], &[0x80, 0x80], &[0x90, 0]] {
        let error = client.call_error(ECHO, echo::WHOAMI, nothing);
        assert_eq!(error.code(), "invalid_arguments", "{nothing:x?}");
    }
    client.is_usable();
}

#[test]
fn arguments_may_be_nested_64_deep_and_no_deeper() {
    let service = TestService::start();
    let mut client = service.client();
    for container in [0x91, 0x81] {
        let nested = |depth: usize| {
            let mut payload = Vec::new();
            for _ in 0..depth {
                payload.push(container);
                if container == 0x81 {
                    payload.push(1);
                }
            }
            payload.push(0xc0);
            payload
        };
        client.send(&mirror(1, &nested(64)));
        let reply = client.packet();
        assert_eq!((reply.header.status, reply.payload), (Status::Ok, nested(64)));
        for depth in [65, 66, 1000, 1_000_000] {
            client.send(&mirror(2, &nested(depth)));
            let error = client.error(2);
            assert_eq!(error.code(), "invalid_arguments");
            assert!(error.message().contains("64"), "{error}");
        }
    }
    client.is_usable();
}

#[test]
fn replies_events_streams_and_unknown_types_are_ignored() {
    let service = TestService::with_tcp(|_| {});
    for mut client in both(&service) {
        for packet_type in [1, 2, 3, 6, 7, 15, 17, 18, 19, -1, i32::MAX, i32::MIN] {
            for status in [Status::Ok, Status::Error, Status::Continue] {
                let packet_type = PacketType::from_wire(packet_type);
                let header = Header { packet_type, status, ..header(ECHO, 1, echo::MIRROR, 1) };
                client.send(&packet(header, &encode("nobody answers this")));
            }
        }
        client.is_usable();
    }
}

#[test]
fn a_ping_is_answered_and_a_pong_is_not() {
    let service = TestService::with_tcp(|_| {});
    for mut client in both(&service) {
        client.send(&keepalive::ping());
        let pong = Packet { header: Header::decode(&keepalive::pong()).1, payload: Vec::new() };
        assert_eq!(client.packet(), pong);
        client.send(&keepalive::pong());
        client.is_usable();
    }
}

/// A call of `echo.mirror` with this many descriptors, as far as it is counted in its length.
fn with_fds(count: u32, serial: u32) -> Vec<u8> {
    let header = Header { packet_type: PacketType::CallWithFds, ..header(ECHO, 1, echo::MIRROR, serial) };
    packet(header, &[&count.to_be_bytes()[..], &encode("x")].concat())
}

/// Sends one zero byte for each descriptor, all duplicates of the same pipe.
fn send_fds(client: &mut Client, count: u32) -> std::io::PipeReader {
    let ((), reader) = pipe_with(|fd| (0..count).for_each(|_| client.send_with_fds(&[0], &[fd])));
    reader
}

/// Whether all descriptors of the other end are closed.
fn is_closed(mut reader: std::io::PipeReader) {
    use std::io::Read;
    let thread = std::thread::spawn(move || reader.read(&mut [0]).unwrap());
    eventually("the service has closed the descriptors", || thread.is_finished());
    assert_eq!(thread.join().unwrap(), 0);
}

#[test]
fn descriptors_are_closed_and_their_call_is_answered_unsupported() {
    let service = TestService::start();
    let mut client = service.client();
    for (serial, count) in [(1, 1), (2, 2), (3, 32)] {
        client.send(&with_fds(count, serial));
        let reader = send_fds(&mut client, count);
        assert_eq!(client.error(serial).code(), "unsupported");
        is_closed(reader);
        client.is_usable();
    }
}

#[test]
fn descriptors_may_come_in_the_same_write_as_the_end_of_their_packet_and_before_other_packets() {
    let service = TestService::start();
    let mut client = service.client();
    let mut bytes = mirror(1, &encode("before"));
    bytes.extend(with_fds(2, 2));
    bytes.push(0);
    let ((), reader) = pipe_with(|fd| {
        client.send_with_fds(&bytes, &[fd]);
        client.send_with_fds(&[0], &[fd]);
    });
    client.send(&mirror(3, &encode("behind")));
    let mut packets = [client.packet(), client.packet(), client.packet()];
    packets.sort_by_key(|packet| packet.header.serial);
    assert_eq!(packets[0].value(), Value::from("before"));
    assert_eq!(packets[1].error().code(), "unsupported");
    assert_eq!(packets[2].value(), Value::from("behind"));
    is_closed(reader);
    client.is_usable();
}

#[test]
fn no_descriptor_is_left_in_the_service() {
    let service = Binary::serve("");
    let mut client = service.client();
    client.is_usable();
    let before = service.usage().descriptors();
    for serial in 0..20 {
        client.send(&with_fds(32, serial));
        drop(send_fds(&mut client, 32));
        assert_eq!(client.error(serial).code(), "unsupported");
        // Descriptors with what is no packet with descriptors.
        pipe_with(|fd| client.send_with_fds(&mirror(serial, &encode(&1)), &[fd, fd, fd]));
        client.reply(serial);
    }
    assert_eq!(service.usage().descriptors(), before);
    let mut hostile = service.client();
    pipe_with(|fd| hostile.send_with_fds(&with_fds(1, 1), &[fd; 64]));
    // It may have been told already, and long enough ago that nothing more is taken.
    let _ = hostile.try_send(&[0]);
    assert_eq!(hostile.error(1).code(), "protocol");
    assert_eq!(hostile.announcement_while_sending().code(), "protocol");
    drop(hostile);
    eventually("no descriptor is left", || service.usage().descriptors() == before);
}

#[test]
fn more_than_32_descriptors_are_a_protocol_error_that_closes() {
    let service = TestService::start();
    for count in [33, u32::MAX] {
        let mut client = service.client();
        client.send(&with_fds(count, 7));
        assert_eq!(client.error(7).code(), "protocol");
        assert_eq!(client.announcement().code(), "protocol");
    }
}

#[test]
fn missing_descriptors_are_a_protocol_error_that_closes() {
    let service = TestService::start();
    let after: [(u32, &[u8]); 4] = [(1, &[0]), (1, &[1]), (2, &[0, 0]), (1, &[0, 0, 0, 28])];
    for (count, bytes) in after {
        let mut client = service.client();
        client.send(&with_fds(count, 7));
        client.send(bytes);
        assert_eq!(client.error(7).code(), "protocol", "{bytes:?}");
        assert_eq!(client.announcement().code(), "protocol");
    }
    // Two descriptors on one byte are not one.
    let mut client = service.client();
    client.send(&with_fds(2, 7));
    pipe_with(|fd| client.send_with_fds(&[0], &[fd, fd]));
    assert_eq!(client.error(7).code(), "protocol");
    assert_eq!(client.announcement().code(), "protocol");
}

#[test]
fn a_packet_with_descriptors_too_short_for_their_count_is_a_protocol_error_that_closes() {
    let service = TestService::start();
    let mut client = service.client();
    let header = Header { packet_type: PacketType::CallWithFds, ..header(ECHO, 1, echo::MIRROR, 7) };
    client.send(&packet(header, &[0, 0]));
    assert_eq!(client.error(7).code(), "protocol");
    assert_eq!(client.announcement().code(), "protocol");
}

#[test]
fn descriptors_over_tcp_are_a_protocol_error() {
    let service = TestService::with_tcp(|_| {});
    for count in [1, 2, 32, 33] {
        let mut client = service.tcp_client();
        client.send(&with_fds(count, 7));
        assert_eq!(client.error(7).code(), "protocol");
        assert_eq!(client.announcement().code(), "protocol");
    }
}

#[test]
fn the_end_of_input_inside_a_packet_closes_without_a_word() {
    let service = TestService::with_tcp(|config| config.limits.max_packet = 1 << 20);
    let whole = mirror(1, &encode("x"));
    for mut client in (0..4).flat_map(|_| both(&service)) {
        client.half_close();
        client.end();
    }
    for cut in [1, 4, 27, 28, whole.len() - 1] {
        for mut client in both(&service) {
            client.send(&whole[..cut]);
            client.half_close();
            client.end();
        }
    }
    // Inside the descriptors of a packet.
    let mut client = service.client();
    client.send(&with_fds(2, 1));
    drop(send_fds(&mut client, 1));
    client.half_close();
    client.end();
}

#[test]
fn the_end_of_input_between_packets_leaves_all_replies_and_then_the_end() {
    let service = TestService::with_tcp(|_| {});
    for (round, mut client) in both(&service).into_iter().enumerate() {
        let doors = [round as u64 * 2 + 1, round as u64 * 2 + 2];
        client.send(&call(TEST, proc::GATE, 1, &map([("door", doors[0].into())])));
        client.send(&call(TEST, proc::GATE_ASYNC, 2, &map([("door", doors[1].into())])));
        client.send(&call(ECHO, echo::QUICK, 3, &parcel(3, b"inline")));
        client.send(&mirror(4, &encode("async")));
        client.half_close();
        service.gate().wait_for(round * 2 + 2);
        let mut serials = vec![client.packet().header.serial, client.packet().header.serial];
        serials.sort_unstable();
        assert_eq!(serials, [3, 4]);
        client.silence(Duration::from_millis(30));
        service.gate().open(doors[1]);
        client.reply(2);
        service.gate().open(doors[0]);
        client.reply(1);
        client.end();
    }
}

/// A call of `echo.mirror` with these bytes as metadata and arguments.
fn with_metadata(serial: u32, payload: &[u8]) -> Vec<u8> {
    packet(Header { packet_type: PacketType::CallWithMetadata, ..header(ECHO, 1, echo::MIRROR, serial) }, payload)
}

#[test]
fn a_call_with_metadata_is_served_as_if_it_had_none() {
    let service = TestService::with_tcp(|_| {});
    for mut client in both(&service) {
        let full = map([
            ("deadline_ms", 60_000.into()),
            ("trace", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
            ("key", Value::Binary(vec![1, 2, 3])),
            ("unknown", Value::Array(vec![Value::Array(vec![Value::Array(vec![])])])),
        ]);
        for metadata in [&full[..], &[0x80], &map([("key", "a string".into())])] {
            client.send(&with_metadata(1, &[metadata, &encode("the arguments")].concat()));
            assert_eq!(client.reply(1), Value::from("the arguments"));
            // Without arguments.
            client.send(&with_metadata(2, metadata));
            assert_eq!(client.reply(2), Value::Nil);
        }
        // The longest map there may be.
        let longest = |length: usize| {
            let mut bytes = map([("x", Value::Binary(vec![0; length - 6]))]);
            assert_eq!(bytes.len(), length);
            bytes.extend(encode("behind"));
            bytes
        };
        client.send(&with_metadata(3, &longest(4096)));
        assert_eq!(client.reply(3), Value::from("behind"));
        client.send(&with_metadata(4, &longest(4097)));
        assert_eq!(client.error(4).code(), "invalid_arguments");
    }
}

#[test]
fn metadata_that_breaks_its_limits_is_invalid_and_the_connection_is_kept() {
    let service = TestService::with_tcp(|_| {});
    let deep = |depth: usize| {
        let mut bytes = vec![0x81, 0xa1, b'x'];
        bytes.extend(vec![0x91; depth - 1]);
        bytes.extend([0xc0, 0xc0]);
        bytes
    };
    for mut client in both(&service) {
        client.send(&with_metadata(1, &deep(4)));
        client.reply(1);
        let cases: [Vec<u8>; 9] = [
            deep(5),
            deep(500),
            vec![],
            encode("no map"),
            encode(&[1, 2]),
            vec![0xc0],
            vec![0xdf, 0xff, 0xff, 0xff, 0xff],
            map([("deadline_ms", "soon".into())]),
            map([("trace", 1.into())]),
        ];
        for case in cases {
            client.send(&with_metadata(2, &case));
            assert_eq!(client.error(2).code(), "invalid_arguments", "{case:x?}");
        }
        client.is_usable();
    }
}

#[test]
fn a_procedure_without_arguments_takes_nil_an_empty_map_an_empty_array_or_nothing() {
    let service = TestService::start();
    let mut client = service.client();
    let nothings: [&[u8]; 8] =
        [&[], &[0xc0], &[0x80], &[0x90], &[0xdc, 0, 0], &[0xde, 0, 0], &[0xdd, 0, 0, 0, 0], &[0xdf, 0, 0, 0, 0]];
    for nothing in nothings {
        client.call(ECHO, echo::WHOAMI, nothing);
        client.call(DIRECTORY, 2, nothing);
        client.call(TEST, proc::COUNT, nothing);
        client.call(TEST, proc::COUNT_ASYNC, nothing);
    }
    client.call(ECHO, echo::WHOAMI, &map([("unknown", 1.into())]));
}

#[test]
fn arguments_come_as_a_map_or_as_an_array_and_unknown_keys_are_ignored() {
    let service = TestService::start();
    let mut client = service.client();
    let data = Value::Binary(b"data".to_vec());
    let expected = Value::Map(vec![("id".into(), 7.into()), ("data".into(), data.clone())]);
    let forms = [
        map([("id", 7.into()), ("data", data.clone())]),
        map([("data", data.clone()), ("id", 7.into())]),
        encode(&Value::Array(vec![7.into(), data.clone()])),
        map([("x", Value::Map(vec![(1.into(), 2.into())])), ("id", 7.into()), ("data", data), ("y", Value::Nil)]),
    ];
    for form in forms {
        for procedure in [echo::ECHO, echo::QUICK] {
            assert_eq!(client.call(ECHO, procedure, &form), expected);
        }
    }
}

#[test]
fn announcements_have_nothing_in_their_header() {
    let service = TestService::start();
    let mut client = service.client();
    client.send(&[0, 0, 0, 1]);
    let raw = client.bytes(28);
    assert_eq!(raw.len(), 28);
    // Type 1 (reply) and status 1 (error) are all that is set.
    assert_eq!(raw[4..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn any_serial_is_valid_also_twice_at_once() {
    let service = TestService::start();
    let mut client = service.client();
    for serial in [0, 0, u32::MAX, u32::MAX, 1 << 31] {
        client.send(&mirror(serial, &encode(&serial)));
    }
    let mut values: Vec<(u32, u64)> =
        (0..5).map(|_| client.packet()).map(|p| (p.header.serial, p.value().as_u64().unwrap())).collect();
    values.sort_unstable();
    let max = u32::MAX;
    assert_eq!(values, [(0, 0), (0, 0), (1 << 31, 1 << 31), (max, max.into()), (max, max.into())]);
}
