//! MessagePack-RPC over real sockets: calls, notifications, every error, every kind of bad input, every limit.

use std::time::Duration;

use postroom_protocol::{HEADER_LEN, Header, PacketType};
use rmpv::Value;

use crate::codecs;
use crate::support::*;

/// An array of any values.
fn array<const N: usize>(values: [Value; N]) -> Value {
    Value::Array(values.into())
}

/// A map by field name.
fn fields<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(fields.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

fn none() -> Value {
    array([])
}

/// Any message.
fn message<const N: usize>(values: [Value; N]) -> Vec<u8> {
    encode(&array(values))
}

fn door(door: u64) -> Value {
    array([door.into()])
}

/// How often a limit or an error was met, or another number of the service.
fn stat(service: &TestService, name: &str) -> u64 {
    let stats = service.running().stats();
    match name {
        "ignored" => stats.ignored_packets,
        code => stats.refused.get(code).copied().unwrap_or(0),
    }
}

#[test]
fn a_procedure_of_every_class_is_called_by_name_of_the_highest_version_or_the_one_that_is_named() {
    // One worker, and so one instance of each handler.
    let service = TestService::with(|config| config.limits.min_workers = 1);
    let mut client = service.client();
    for (msgid, method, params, result) in [
        (0, "echo.mirror", door(7), array([7.into()])),
        (1, "echo/1.mirror", door(8), array([8.into()])),
        (127, "echo.block", door(0), fields([])),
        (128, "echo.sleep", door(0), fields([])),
        (u32::MAX, "echo.whoami", none(), Value::Nil),
    ] {
        client.send(&request(msgid, method, &params));
        let found = client.result_of(msgid.into());
        assert!(found == result || method == "echo.whoami", "{method}: {found}");
    }
    // Version 2 of `test` has handlers of its own, which count for themselves.
    for (method, calls) in [("test.count", 1), ("test/2.count", 2), ("test/1.count", 1), ("test.count", 3)] {
        client.send(&request(9, method, &none()));
        assert_eq!(client.result_of(9)["calls"], Value::from(calls), "{method}");
    }
}

#[test]
fn arguments_come_in_order_or_by_name() {
    let service = TestService::start();
    let mut client = service.client();
    let data = Value::Binary(vec![1, 2]);
    let by_name = || fields([("id", 7.into()), ("data", data.clone())]);
    for params in [array([7.into(), data.clone()]), array([by_name()]), by_name()] {
        client.send(&request(1, "echo.echo", &params));
        assert_eq!(client.result_of(1), by_name(), "{params}");
    }
    for params in [none(), Value::Nil, fields([]), array([fields([])])] {
        client.send(&request(2, "directory.describe", &params));
        assert!(client.result_of(2)["programs"].is_array(), "{params}");
    }
    // One map is always fields by name, whatever the procedure takes.
    client.send(&request(3, "echo.mirror", &array([fields([("x", 1.into())])])));
    assert_eq!(client.result_of(3), fields([("x", 1.into())]));
    for params in [Value::from(1), "x".into(), Value::Binary(vec![1])] {
        client.send(&request(4, "echo.mirror", &params));
        let error = client.error_of(4);
        assert!(error.code() == "invalid_arguments" && error.message().contains("an array, a map or nil"), "{error}");
    }
}

#[test]
fn replies_come_when_they_are_ready_whatever_the_order_of_the_requests() {
    let service = TestService::start();
    let mut client = service.client();
    client.send(&request(1, "test/1.gate", &door(1)));
    service.gate().wait_for(1);
    client.send(&request(2, "test/1.gate_async", &door(2)));
    client.send(&request(3, "echo.quick", &array([3.into(), Value::Binary(vec![])])));
    client.result_of(3);
    service.gate().open(2);
    client.result_of(2);
    service.gate().open(1);
    client.result_of(1);
}

#[test]
fn a_thousand_pipelined_requests_get_a_thousand_responses_over_unix_and_tcp() {
    let service = TestService::with_tcp(|_| {});
    for mut client in [service.client(), service.tcp_client()] {
        let mut writer = client.writer();
        let methods = ["echo.echo", "echo.quick", "echo.mirror"];
        let sender = std::thread::spawn(move || {
            for msgid in 0..1000_u32 {
                let params = fields([("id", msgid.into()), ("data", Value::Binary(vec![7; msgid as usize % 300]))]);
                writer.send(&request(msgid, methods[msgid as usize % 3], &params));
            }
        });
        let mut open: std::collections::BTreeSet<u64> = (0..1000).collect();
        while !open.is_empty() {
            let (msgid, result) = client.response();
            assert!(open.remove(&msgid), "{msgid} was answered twice");
            assert_eq!(result.unwrap()["id"], Value::from(msgid));
        }
        sender.join().unwrap();
        client.send(&request(1000, "echo.mirror", &none()));
        assert_eq!(client.result_of(1000), none());
    }
}

#[test]
fn a_request_that_comes_byte_by_byte_is_a_request() {
    let service = TestService::start();
    let mut client = service.client();
    for byte in request(7, "echo.mirror", &array(["x".repeat(40).into()])) {
        client.send(&[byte]);
    }
    assert_eq!(client.result_of(7), array(["x".repeat(40).into()]));
}

#[test]
fn what_cannot_be_called_is_told_with_the_codes_of_packets() {
    let service = TestService::with_programs(|shared| vec![codecs::remote(&shared.gate)], |_| {});
    let mut client = service.client();
    let own_error = fields([("code", "tea".into()), ("message", "no tea".into())]);
    for (method, params, told) in [
        ("nobody.home", none(), "unknown_program: there is no program \"nobody\""),
        ("echo/9.echo", none(), "unknown_version: program echo (0x6563686f) has no version 9; it has: 1"),
        ("echo.nothing", none(), "unknown_procedure: program echo version 1 has no procedure \"nothing\""),
        // The highest version has no such procedure.
        ("test.gate", none(), "unknown_procedure: program test version 2 has no procedure \"gate\""),
        ("echo", none(), "unknown_procedure: method \"echo\" is neither"),
        ("echo/x.echo", none(), "unknown_procedure: method \"echo/x.echo\" names a version"),
        ("echo.echo", none(), "invalid_arguments: "),
        ("echo.echo", array([1.into(), 2.into()]), "invalid_arguments: "),
        ("echo.fail", own_error, "tea: no tea"),
        ("echo.panic", none(), "internal: the service failed"),
        ("test/1.unencodable", none(), "internal: the service failed"),
        ("remote.connect_get_hostname", none(), "unsupported: remote.connect_get_hostname takes and gives xdr"),
    ] {
        client.send(&request(5, method, &params));
        let error = client.error_of(5).to_string();
        assert!(error.starts_with(told), "{method}: {error}");
    }
    client.send(&request(6, &format!("{}.x", "x".repeat(10_000)), &none()));
    assert!(client.error_of(6).message().len() < 200);
}

#[test]
fn a_notification_is_a_call_whose_answer_is_thrown_away_and_counted() {
    let service = TestService::start();
    let mut client = service.client();
    service.gate().open(1);
    client.send(&notification("test/1.gate", &door(1)));
    client.send(&notification("test/1.gate_async", &door(1)));
    client.send(&notification("test/1.count_inline", &none()));
    client.send(&notification("test/1.panic", &none()));
    client.send(&notification("echo.fail", &array(["tea".into(), "no".into()])));
    client.send(&notification("nobody.home", &none()));
    client.send(&notification("echo.echo", &Value::from(1)));
    client.send(&message([2.into(), 7.into(), none()]));
    service.gate().wait_for(2);
    eventually("all are counted", || {
        let stats = service.running().stats();
        let count = |name: &str, outcome: &str| -> u64 {
            let named = stats.procedures.iter().filter(|procedure| procedure.name == name);
            named.filter_map(|procedure| procedure.outcomes.get(outcome)).sum()
        };
        let done = ["test.gate", "test.gate_async", "test.count_inline"].iter().all(|name| count(name, "ok") == 1);
        done && count("test.panic", "internal") == 1 && count("echo.fail", "own") == 1
    });
    for code in ["unknown_program", "invalid_arguments", "protocol"] {
        assert_eq!(stat(&service, code), 1, "{code}");
    }
    // Nothing has come for any of them, and all their places are free again.
    client.send(&request(1, "echo.mirror", &none()));
    client.result_of(1);
    client.silence(Duration::from_millis(20));
}

#[test]
fn a_thousand_notifications_run_under_the_limits_of_their_client() {
    let service = TestService::with(|config| {
        config.limits.max_client_requests = 4;
        config.limits.max_client_backlog = 4;
    });
    let mut client = service.client();
    for _ in 0..500 {
        client.send(&notification("test/1.count", &none()));
        client.send(&notification("test/1.count_async", &none()));
    }
    client.send(&request(1, "echo.mirror", &none()));
    client.result_of(1);
    eventually("all have run", || {
        let stats = service.running().stats();
        stats.procedures.iter().filter_map(|procedure| procedure.outcomes.get("ok")).sum::<u64>() == 1001
    });
}

#[test]
fn a_response_is_ignored_and_counted() {
    let service = TestService::start();
    let mut client = service.client();
    client.send(&message([1.into(), 5.into(), Value::Nil, "what?".into()]));
    client.send(&request(1, "echo.mirror", &none()));
    client.result_of(1);
    assert_eq!(stat(&service, "ignored"), 1);
}

#[test]
fn a_malformed_message_whose_end_is_known_is_answered_where_its_id_can_be_read() {
    let service = TestService::start();
    let mut client = service.client();
    // A method that is no string; a request of three elements has no params, but its id.
    client.send(&message([0.into(), 3.into(), 7.into(), none()]));
    assert_eq!(client.error_of(3).to_string(), "protocol: the method is no string of UTF-8");
    client.send(&[0x94, 0, 4, 0xa1, 0xff, 0x90]);
    assert_eq!(client.error_of(4).code(), "protocol");
    client.send(&request(5, "echo.mirror", &none()));
    client.result_of(5);
    for bad in [
        message([0.into(), Value::from(-1), "echo.mirror".into(), none()]),
        message([0.into(), "x".into(), "echo.mirror".into(), none()]),
        message([3.into(), 1.into(), "echo.mirror".into(), none()]),
        message(["0".into(), 1.into(), "echo.mirror".into(), none()]),
    ] {
        let mut client = service.client();
        client.send(&bad);
        assert_eq!(client.close_message().code(), "protocol", "{bad:02x?}");
    }
}

#[test]
fn what_cannot_be_followed_ends_the_connection_behind_what_it_is_owed() {
    let service = TestService::start();
    // Between messages.
    let mut client = service.client();
    client.send(&request(1, "test/1.gate", &door(1)));
    service.gate().wait_for(1);
    client.send(&[0x05]);
    client.silence(Duration::from_millis(20));
    service.gate().open(1);
    client.result_of(1);
    let error = client.close_message();
    assert!(error.code() == "protocol" && error.message().contains("0x05"), "{error}");
    // Within one whose id was read, and one whose id was not.
    let mut client = service.client();
    client.send(&[0x94, 0, 7, 0xa1, b'x', 0xc1]);
    assert_eq!(client.error_of(7).code(), "protocol");
    assert_eq!(client.close_message().code(), "protocol");
    let mut client = service.client();
    client.send(&[0x94, 0, 0xc1]);
    assert_eq!(client.close_message().code(), "protocol");
}

#[test]
fn arguments_may_be_nested_64_deep_and_a_message_that_is_deeper_ends_the_connection() {
    let service = TestService::start();
    let nested = |depth: usize| {
        let mut bytes = vec![0x94, 0, 1, 0xab];
        bytes.extend(b"echo.mirror");
        bytes.extend(vec![0x91; depth - 1]);
        bytes.push(0x90);
        bytes
    };
    let mut client = service.client();
    client.send(&nested(64));
    client.result_of(1);
    client.send(&nested(65));
    let error = client.error_of(1);
    assert!(error.code() == "invalid_arguments", "{error}");
    client.send(&nested(66));
    assert_eq!(client.error_of(1).code(), "protocol");
    let error = client.close_message();
    assert!(error.code() == "protocol" && error.message().contains("deeper than 66"), "{error}");
}

#[test]
fn a_message_over_the_limit_is_refused_at_once_and_skipped() {
    let service = TestService::with(|config| config.limits.max_packet = 4096);
    let mut client = service.client();
    let big = request(1, "echo.mirror", &array([Value::Binary(vec![7; 5000])]));
    client.send(&big[..100]);
    let error = client.error_of(1);
    assert_eq!((error.code().as_str(), error.limit()), ("too_large", Some(("max_packet", 4096))), "{error}");
    client.send(&big[100..]);
    client.send(&request(2, "echo.mirror", &none()));
    client.result_of(2);
    // A notification is told nothing.
    client.send(&notification("echo.mirror", &array([Value::Binary(vec![7; 5000])])));
    client.send(&request(3, "echo.mirror", &none()));
    client.result_of(3);
    assert_eq!(stat(&service, "too_large"), 2);
    // A result over the limit is an error of its call.
    client.send(&request(4, "test/1.grow", &door(5000)));
    assert_eq!(client.error_of(4).code(), "too_large");
}

#[test]
fn a_message_far_over_the_limit_ends_the_connection() {
    let service = TestService::with(|config| config.limits.max_packet = 4096);
    let mut client = service.client();
    let head = b"\x94\x00\x07\xabecho.mirror\x91\xc6";
    client.send(&[&head[..], &(17 * 4096_u32).to_be_bytes()].concat());
    assert_eq!(client.error_of(7).code(), "too_large");
    assert_eq!(client.close_message().code(), "too_large");
    // One that is skipped, and goes on and on, is answered once.
    let mut client = service.client();
    let mut bytes = b"\x94\x00\x08\xabecho.mirror\xdc\xff\xff".to_vec();
    for _ in 0..2 {
        bytes.extend([0xda, 0x80, 0x00]);
        bytes.extend(vec![b'x'; 0x8000]);
    }
    client.send(&bytes);
    assert_eq!(client.error_of(8).code(), "too_large");
    assert_eq!(client.close_message().code(), "too_large");
    // One of which nobody can tell what it is.
    let mut client = service.client();
    client.send(b"\x94\xdb\x00\x00\x20\x00");
    assert_eq!(client.close_message().code(), "too_large");
}

#[test]
fn once_a_client_has_begun_it_keeps_its_format() {
    let service = TestService::start();
    let mut client = service.client();
    client.send(&request(1, "echo.mirror", &none()));
    client.result_of(1);
    client.send(&call(ECHO, echo::MIRROR, 2, &[]));
    let error = client.close_message();
    assert!(error.code() == "protocol" && error.message().contains("begins with 0x00"), "{error}");
    // The other way round it is a packet of more than two gigabytes.
    let mut client = service.client();
    client.is_usable();
    let long = request(1, "echo.mirror", &array(["x".repeat(HEADER_LEN).into()]));
    client.send(&long);
    assert_eq!(client.announcement().code(), "too_large");
}

#[test]
fn every_other_first_byte_begins_a_packet() {
    let service = TestService::start();
    for first in [0x41, 0x47, 0x80, 0x92, 0x95, 0xdc, 0xff] {
        let mut client = service.client();
        client.send(&[first; HEADER_LEN]);
        assert_eq!(client.announcement().code(), "too_large", "{first:#04x}");
    }
}

#[test]
fn a_half_close_still_gets_every_response() {
    let service = TestService::start();
    let mut client = service.client();
    for msgid in 0..300 {
        client.send(&request(msgid, "echo.echo", &array([msgid.into(), Value::Binary(vec![])])));
    }
    client.half_close();
    let mut answered: Vec<u64> = (0..300).map(|_| client.response().0).collect();
    answered.sort_unstable();
    assert_eq!(answered, (0..300).collect::<Vec<_>>());
    client.end();
    // Within a message nothing is said.
    let mut client = service.client();
    client.send(&request(1, "echo.mirror", &none())[..5]);
    client.half_close();
    client.end();
}

#[test]
fn calls_beyond_max_client_requests_wait_and_one_client_holds_no_other() {
    let service = TestService::with(|config| {
        config.limits.max_client_requests = 2;
        config.limits.max_client_backlog = 2;
    });
    let mut client = service.client();
    for msgid in 0..10 {
        client.send(&request(msgid, "test/1.gate_async", &door(msgid.into())));
    }
    service.gate().wait_for(2);
    service.client().is_usable();
    assert_eq!(service.gate().entered(), [0, 1]);
    service.gate().open_all();
    let mut answered: Vec<u64> = (0..10).map(|_| client.response().0).collect();
    answered.sort_unstable();
    assert_eq!(answered, (0..10).collect::<Vec<_>>());
}

#[test]
fn hello_sets_a_deadline_for_requests_too() {
    let service = TestService::start();
    let mut client = service.client();
    let hello = fields([("client", "rpc".into()), ("version", "1".into()), ("deadline_ms", 20.into())]);
    client.send(&request(1, "directory.hello", &hello));
    let welcome = client.result_of(1);
    assert!(welcome["features"].as_array().unwrap().contains(&"messagepack-rpc".into()), "{welcome}");
    client.send(&request(2, "test/1.gate_async", &door(1)));
    let error = client.error_of(2);
    assert_eq!(error.to_string(), "deadline_exceeded: the call was not done within its deadline of 20 ms");
    // Of a notification nobody hears, and it is over all the same.
    client.send(&notification("test/1.gate_async", &door(2)));
    eventually("the notification has ended", || {
        let stats = service.running().stats();
        stats.procedures.iter().filter_map(|procedure| procedure.outcomes.get("deadline_exceeded")).sum::<u64>() == 2
    });
    client.send(&request(3, "echo.whoami", &none()));
    client.result_of(3);
}

#[test]
fn a_client_that_says_hello_in_messages_is_not_pinged() {
    let service = TestService::with(|config| {
        config.limits.keepalive_interval = Duration::from_millis(5);
        config.limits.keepalive_count = 1;
    });
    let mut client = service.client();
    client.send(&request(1, "directory.hello", &array(["rpc".into(), "1".into()])));
    client.result_of(1);
    client.silence(Duration::from_millis(100));
    client.send(&request(2, "echo.whoami", &none()));
    client.result_of(2);
}

#[test]
fn timeouts_and_the_end_of_the_service_are_announced_as_a_notification() {
    let service = TestService::with(|config| config.limits.packet_timeout = Duration::from_millis(20));
    let mut client = service.client();
    client.send(&[0x94]);
    let error = client.close_message();
    assert_eq!((error.code().as_str(), error.limit()), ("packet_timeout", Some(("packet_timeout", 20))));

    let service = TestService::with(|config| config.limits.idle_timeout = Duration::from_millis(20));
    let mut client = service.client();
    client.send(&request(1, "echo.mirror", &none()));
    client.result_of(1);
    assert_eq!(client.close_message().code(), "idle_timeout");

    let service = TestService::start();
    let (mut client, mut silent) = (service.client(), service.client());
    client.send(&request(1, "test/1.gate", &door(1)));
    service.gate().wait_for(1);
    let gate = service.gate().clone();
    let stopping = std::thread::spawn(move || service.stop());
    // One that has said nothing is told in a packet.
    assert_eq!(silent.announcement().code(), "shutting_down");
    gate.open(1);
    client.result_of(1);
    assert_eq!(client.close_message().code(), "shutting_down");
    assert!(stopping.join().unwrap().is_clean());
}

#[test]
fn what_is_cut_when_the_service_stops_is_told_so() {
    let service = TestService::with(|config| config.limits.shutdown_timeout = Duration::from_millis(1));
    let mut client = service.client();
    client.send(&request(1, "test/1.gate_async", &door(1)));
    client.send(&notification("test/1.gate_async", &door(1)));
    service.gate().wait_for(2);
    service.stop();
    assert_eq!(client.error_of(1).code(), "shutting_down");
    assert_eq!(client.close_message().code(), "shutting_down");
}

#[test]
fn overload_and_poison_are_told_to_requests() {
    let service = TestService::with(|config| {
        config.limits.min_workers = 1;
        config.limits.max_pending_calls = 1;
        config.limits.poison_after = 2;
    });
    let mut client = service.client();
    for msgid in 0..2 {
        client.send(&request(msgid, "test/1.panic", &none()));
        assert_eq!(client.error_of(msgid.into()).code(), "internal");
    }
    client.send(&request(2, "test/1.panic", &none()));
    assert_eq!(client.error_of(2).code(), "poisoned");
    client.send(&request(3, "test/1.gate", &door(1)));
    service.gate().wait_for(1);
    client.send(&request(4, "test/1.gate", &door(1)));
    client.send(&request(5, "test/1.gate", &door(1)));
    let error = client.error_of(5);
    assert_eq!((error.code().as_str(), error.limit()), ("overloaded", Some(("max_pending_calls", 1))), "{error}");
}

#[test]
fn calls_of_a_client_that_leaves_are_cancelled() {
    let service = TestService::start();
    let mut client = service.client();
    client.send(&request(1, "test/1.gate_async", &door(1)));
    client.send(&notification("test/1.gate_async", &door(1)));
    service.gate().wait_for(2);
    drop(client);
    eventually("both are cancelled", || {
        let stats = service.running().stats();
        stats.procedures.iter().filter_map(|procedure| procedure.outcomes.get("cancelled")).sum::<u64>() == 2
    });
}

#[test]
fn a_client_that_does_not_read_is_held_and_costs_no_more_than_its_limit() {
    let service = TestService::with(|config| config.limits.max_client_output = 64 * 1024);
    let mut client = service.client();
    let mut writer = client.writer();
    let calls = 200;
    let sender = std::thread::spawn(move || {
        for msgid in 0..calls {
            let params = array([msgid.into(), Value::Binary(vec![7; 20_000])]);
            writer.send(&request(msgid, "echo.echo", &params));
        }
    });
    eventually("it is held", || service.running().stats().clients.held == 1);
    let mut answered: Vec<u64> = (0..calls).map(|_| client.response().0).collect();
    sender.join().unwrap();
    answered.sort_unstable();
    assert_eq!(answered, (0..u64::from(calls)).collect::<Vec<_>>());
}

#[test]
fn packets_and_messages_are_served_side_by_side() {
    let service = TestService::start();
    let (mut packets, mut messages) = (service.client(), service.client());
    for n in 0..50 {
        packets.send(&call(ECHO, echo::MIRROR, n, &encode(&n)));
        messages.send(&request(n, "echo.mirror", &array([n.into()])));
    }
    for _ in 0..50 {
        let packet = packets.packet();
        assert_eq!(packet.header.packet_type, PacketType::Reply);
        assert_eq!(packet.value(), Value::from(packet.header.serial));
        let (msgid, result) = messages.response();
        assert_eq!(result.unwrap(), array([msgid.into()]));
    }
    packets.send(&packet(Header { packet_type: PacketType::Cancel, ..header(ECHO, 1, 1, 1) }, &[]));
    packets.is_usable();
}

#[test]
fn a_client_inside_the_process_may_speak_messages_too() {
    use std::future::poll_fn;
    use std::pin::Pin;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    let service = TestService::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut stream = service.running().local().open().unwrap();
        let request = request(7, "echo.mirror", &array([1.into(), 2.into()]));
        let sent = poll_fn(|task| Pin::new(&mut stream).poll_write(task, &request)).await.unwrap();
        assert_eq!(sent, request.len());
        let mut response = [0; 100];
        let mut response = ReadBuf::new(&mut response);
        poll_fn(|task| Pin::new(&mut stream).poll_read(task, &mut response)).await.unwrap();
        assert_eq!(response.filled(), [0x94, 1, 7, 0xc0, 0x92, 1, 2]);
    });
}
