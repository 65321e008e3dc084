//! Calls and their replies: every procedure of the built-in programs, versions, order, sizes, and load.

use std::collections::HashMap;

use postroom_protocol::PacketType;
use rmpv::Value;

use crate::support::*;

fn field<'a>(value: &'a Value, key: &str) -> &'a Value {
    let entries = value.as_map().unwrap_or_else(|| panic!("{value} is no map"));
    let found = entries.iter().find(|(name, _)| name.as_str() == Some(key));
    &found.unwrap_or_else(|| panic!("{value} has no {key}")).1
}

#[test]
fn every_procedure_of_echo_does_what_it_says() {
    let service = TestService::start();
    let mut client = service.client();
    let data = Value::Binary(vec![0, 1, 255]);
    let sent = Value::Map(vec![("id".into(), u64::MAX.into()), ("data".into(), data.clone())]);
    assert_eq!(client.call(ECHO, echo::ECHO, &encode(&sent)), sent);
    assert_eq!(client.call(ECHO, echo::QUICK, &encode(&sent)), sent);
    let done = Value::Map(vec![]);
    for procedure in [echo::SLEEP, echo::BLOCK, echo::NAP] {
        assert_eq!(client.call(ECHO, procedure, &map([("ms", 1.into())])), done);
    }
    let error = client.call_error(ECHO, echo::FAIL, &map([("code", "tea".into()), ("message", "no tea".into())]));
    assert_eq!((error.code().as_str(), error.message()), ("tea", "no tea"));
    let error = client.call_error(ECHO, echo::PANIC, &map([("n", 1.into())]));
    assert_eq!(error.code(), "internal");
    assert_eq!(client.call_error(ECHO, echo::PANIC, &[]).code(), "internal");
    let hash = client.call(ECHO, echo::HASH, &map([("data", Value::Binary(b"abc".to_vec()))]));
    let expected = [
        0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03,
        0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
    ];
    assert_eq!(field(&hash, "sha256"), &Value::Binary(expected.to_vec()));
    let who = client.call(ECHO, echo::WHOAMI, &[]);
    assert_eq!(field(&who, "transport"), &Value::from("unix"));
}

#[test]
fn mirror_gives_any_value_back_as_it_was() {
    let service = TestService::start();
    let mut client = service.client();
    let values = [
        Value::Nil,
        true.into(),
        u64::MAX.into(),
        i64::MIN.into(),
        1.5.into(),
        f32::MIN.into(),
        "ünï".into(),
        Value::Binary(vec![0; 300]),
        Value::Array(vec![Value::Nil; 20]),
        Value::Map(vec![(Value::Array(vec![]), Value::Map(vec![])), (1.into(), 2.into())]),
        Value::Ext(-1, vec![0; 4]),
        Value::Ext(7, vec![1; 300]),
        Value::Map(vec![]),
        Value::Array(vec![]),
    ];
    for value in values {
        client.send(&call(ECHO, echo::MIRROR, 1, &encode(&value)));
        assert_eq!(client.packet().payload, encode(&value), "{value}");
    }
    assert_eq!(client.call(ECHO, echo::MIRROR, &[]), Value::Nil);
    // A string is UTF-8, or it is refused.
    assert_eq!(client.call_error(ECHO, echo::MIRROR, &[0xa2, 0xff, 0xfe]).code(), "invalid_arguments");
}

#[test]
fn hello_introduces_both_sides() {
    let service = TestService::start();
    let mut client = service.client();
    let who = client.call(ECHO, echo::WHOAMI, &[]);
    for arguments in [
        map([("client", "tests".into()), ("version", "1".into())]),
        map([("client", "tests".into()), ("version", "1".into()), ("deadline_ms", 1000.into())]),
        encode(&["tests", "1"]),
    ] {
        let hello = client.call(DIRECTORY, 1, &arguments);
        assert_eq!(field(&hello, "service"), &Value::from("postroom"));
        assert!(field(&hello, "version").as_str().is_some_and(|version| !version.is_empty()));
        assert_eq!(field(&hello, "client_id"), field(&who, "client_id"));
        assert_eq!(field(field(&hello, "limits"), "max_packet"), &Value::from(33_554_436));
        assert_eq!(field(field(&hello, "limits"), "min_workers"), &Value::from(2));
        assert!(field(&hello, "features").as_array().is_some());
    }
}

#[test]
fn describe_lists_every_program_version_and_procedure() {
    let service = TestService::start();
    let mut client = service.client();
    let described = client.call(DIRECTORY, 2, &[]);
    let programs = field(&described, "programs").as_array().unwrap();
    let named = |name: &str, version: u64| {
        let is_it = |program: &&Value| {
            field(program, "name").as_str() == Some(name) && field(program, "version").as_u64() == Some(version)
        };
        programs.iter().find(is_it).unwrap_or_else(|| panic!("{name} version {version} in {described}"))
    };
    let procedures = |program: &Value| -> HashMap<String, (i64, String, bool)> {
        let listed = field(program, "procedures").as_array().unwrap().iter().map(|procedure| {
            let text = |key| field(procedure, key).as_str().unwrap().to_owned();
            let number = field(procedure, "number").as_i64().unwrap();
            (text("name"), (number, text("class"), field(procedure, "priority").as_bool().unwrap()))
        });
        listed.collect()
    };
    assert_eq!(field(named("echo", 1), "number"), &Value::from(ECHO));
    let echo = procedures(named("echo", 1));
    let expected = [
        ("echo", 1, "blocking", false),
        ("mirror", 2, "async", false),
        ("sleep", 3, "async", false),
        ("block", 4, "blocking", false),
        ("fail", 5, "blocking", false),
        ("panic", 6, "blocking", false),
        ("hash", 7, "blocking", false),
        ("whoami", 8, "inline", false),
        ("nap", 9, "blocking", true),
        ("quick", 10, "inline", false),
    ];
    assert_eq!(echo.len(), expected.len());
    for (name, number, class, priority) in expected {
        assert_eq!(echo[name], (number, class.to_owned(), priority), "{name}");
    }
    let directory = procedures(named("directory", 1));
    assert_eq!(directory["hello"], (1, "inline".to_owned(), false));
    assert_eq!(directory["describe"], (2, "inline".to_owned(), false));
    assert_eq!(procedures(named("test", 2)).len(), 1);
    assert!(procedures(named("test", 1)).len() > 1);
    named("keepalive", 1);
}

#[test]
fn versions_of_a_program_stand_side_by_side_each_with_its_own_handlers() {
    let service = TestService::with(|config| config.limits.min_workers = 1);
    let mut client = service.client();
    let mut count = |version: u32| {
        client.send(&packet(header(TEST, version, proc::COUNT, 1), &[]));
        let counted = client.reply(1);
        (field(&counted, "instance").clone(), field(&counted, "calls").as_u64().unwrap())
    };
    let (first, one) = count(1);
    let (second, also_one) = count(2);
    assert_ne!(first, second);
    assert_eq!((one, also_one), (1, 1));
    assert_eq!(count(1), (first, 2));
    assert_eq!(count(2), (second, 2));
}

#[test]
fn an_error_type_of_the_handlers_own_keeps_its_code_and_details() {
    let service = TestService::start();
    let mut client = service.client();
    let error = client.call_error(TEST, proc::OWN_ERROR, &map([("number", 77.into())]));
    assert_eq!(error.code(), "out_of_cheese");
    assert!(error.message().contains("77"));
    assert_eq!(error.details(), Some(&Value::Map(vec![("number".into(), 77.into())])));
    assert!(!error.retryable());
    assert_eq!(error.incident(), None);
}

#[test]
fn a_result_that_does_not_encode_is_an_internal_error_and_nothing_of_it_leaks_into_the_reply() {
    let service = TestService::start();
    let mut client = service.client();
    let error = client.call_error(TEST, proc::UNENCODABLE, &[]);
    assert_eq!(error.code(), "internal");
    assert!(error.incident().is_some());
    assert!(!error.message().contains("odd"), "{error}");
    client.is_usable();
}

#[test]
fn a_result_over_the_limit_is_too_large_and_the_connection_is_kept() {
    let service = TestService::with(|config| config.limits.max_packet = 4096);
    let mut client = service.client();
    for procedure in [proc::GROW, proc::GROW_INLINE] {
        let error = client.call_error(TEST, procedure, &map([("bytes", 5000.into())]));
        assert_eq!(error.code(), "too_large");
        assert_eq!(error.limit(), Some(("max_packet", 4096)));
    }
    client.is_usable();
}

#[test]
fn replies_come_when_they_are_ready_not_in_the_order_of_calls() {
    let service = TestService::start();
    let mut client = service.client();
    let door = |door: u64| map([("door", door.into())]);
    client.send(&call(TEST, proc::GATE, 1, &door(1)));
    client.send(&call(TEST, proc::GATE_ASYNC, 2, &door(2)));
    service.gate().wait_for(2);
    client.send(&call(ECHO, echo::QUICK, 3, &parcel(3, b"")));
    client.reply(3);
    client.send(&call(ECHO, echo::ECHO, 4, &parcel(4, b"")));
    client.reply(4);
    service.gate().open(2);
    client.reply(2);
    service.gate().open(1);
    client.reply(1);
}

#[test]
fn a_call_may_come_byte_by_byte() {
    let service = TestService::with_tcp(|_| {});
    for mut client in [service.client(), service.tcp_client()] {
        for procedure in [echo::ECHO, echo::QUICK] {
            for byte in call(ECHO, procedure, 1, &parcel(1, b"byte by byte")) {
                client.send(&[byte]);
            }
            assert_eq!(field(&client.reply(1), "data"), &Value::Binary(b"byte by byte".to_vec()));
        }
    }
}

#[test]
fn a_call_may_be_split_at_any_point() {
    let service = TestService::start();
    let mut client = service.client();
    let bytes = call(ECHO, echo::QUICK, 1, &parcel(1, b"split"));
    for at in 1..bytes.len() {
        let (first, rest) = bytes.split_at(at);
        client.send(first);
        // Another client's answer shows that the first part has most likely been read.
        service.client().is_usable();
        // The rest comes with a whole call and the first part of a third.
        client.send(&[rest, &bytes, first].concat());
        client.reply(1);
        client.reply(1);
        client.send(rest);
        client.reply(1);
    }
}

#[test]
fn a_call_of_eight_mebibytes_is_served() {
    let service = TestService::with_tcp(|_| {});
    let data = Random(8).bytes(8 << 20);
    for client in [service.client(), service.tcp_client()] {
        for procedure in [echo::ECHO, echo::QUICK] {
            let bytes = call(ECHO, procedure, 1, &parcel(1, &data));
            let mut writer = client.writer();
            let sender = std::thread::spawn(move || writer.send(&bytes));
            let mut reader = client.writer();
            assert_eq!(field(&reader.reply(1), "data").as_slice(), Some(&data[..]));
            sender.join().unwrap();
        }
    }
}

#[test]
fn a_call_of_the_default_limit_is_served() {
    let service = TestService::start();
    let client = service.client();
    let payload = encode(&Value::Binary(vec![1; 33_554_436 - 28 - 5]));
    let bytes = call(ECHO, echo::MIRROR, 1, &payload);
    assert_eq!(bytes.len(), 33_554_436);
    let mut writer = client.writer();
    let sender = std::thread::spawn(move || writer.send(&bytes));
    let mut reader = client.writer();
    assert!(reader.packet().payload == payload);
    sender.join().unwrap();
}

/// Sends calls as fast as the service takes them, and checks that each is answered once, with its own data.
fn pipelined(client: Client, calls: u32, procedure: impl Fn(u32) -> i32 + Send + 'static) {
    let payload = |serial: u32| parcel(serial.into(), &serial.to_be_bytes().repeat(serial as usize % 50));
    let mut writer = client.writer();
    let sender = std::thread::spawn(move || {
        for start in (0..calls).step_by(100) {
            let end = calls.min(start + 100);
            let bytes = (start..end).map(|serial| call(ECHO, procedure(serial), serial, &payload(serial)));
            writer.send(&bytes.collect::<Vec<_>>().concat());
        }
        writer.half_close();
    });
    let mut reader = client;
    let mut seen = vec![false; calls as usize];
    for _ in 0..calls {
        let reply = reader.packet();
        let serial = reply.header.serial;
        assert_eq!(reply.header.packet_type, PacketType::Reply);
        assert_eq!(reply.payload, payload(serial), "{:?}", reply.header);
        assert!(!std::mem::replace(&mut seen[serial as usize], true), "two replies to {serial}");
    }
    reader.end();
    sender.join().unwrap();
}

#[test]
fn ten_thousand_pipelined_calls_are_answered_once_each_in_every_class() {
    let service = TestService::start();
    for procedure in [echo::ECHO, echo::QUICK, echo::MIRROR] {
        pipelined(service.client(), 10_000, move |_| procedure);
    }
}

#[test]
fn calls_of_all_classes_from_several_connections_do_not_mix() {
    let service = TestService::with_tcp(|_| {});
    let procedures = [echo::ECHO, echo::QUICK, echo::MIRROR];
    let clients = (0..8).map(|index| if index % 2 == 0 { service.client() } else { service.tcp_client() });
    let threads: Vec<_> = clients
        .enumerate()
        .map(|(index, client)| {
            let procedure = move |serial: u32| procedures[(serial as usize * 7 + index) % 3];
            std::thread::spawn(move || pipelined(client, 3000, procedure))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn big_payloads_come_back_whole_to_a_client_that_reads_slowly() {
    let service = TestService::with_tcp(|_| {});
    for client in [service.client(), service.tcp_client()] {
        let sizes = [64 << 10, 2 << 20, 100, 1 << 20, (64 << 10) + 1, 300_000, 2 << 20, 0];
        let procedures = [echo::ECHO, echo::QUICK, echo::MIRROR];
        let data = move |serial: u32| Random(u64::from(serial) + 1).bytes(sizes[serial as usize % sizes.len()]);
        let mut writer = client.writer();
        let sender = std::thread::spawn(move || {
            for serial in 0..24 {
                let procedure = procedures[serial as usize % 3];
                writer.send(&call(ECHO, procedure, serial, &parcel(serial.into(), &data(serial))));
            }
        });
        // It reads in small portions, and much later than it could.
        eventually("the service has stopped taking calls, or has taken all", || {
            let mut buffered = 0;
            if let Ok(bytes) = rustix::io::ioctl_fionread(&client) {
                buffered = bytes;
            }
            buffered > 0
        });
        let mut reader = client.writer();
        let mut seen = [false; 24];
        for _ in 0..24 {
            let reply = reader.packet();
            let serial = reply.header.serial;
            assert_eq!(field(&reply.value(), "data").as_slice(), Some(&data(serial)[..]));
            assert!(!std::mem::replace(&mut seen[serial as usize], true));
        }
        sender.join().unwrap();
    }
}

#[test]
fn state_is_one_instance_for_each_worker_and_survives_from_call_to_call() {
    let service = TestService::with(|config| {
        config.limits.min_workers = 1;
        config.limits.async_workers = 1;
        config.limits.io_arbiters = 1;
    });
    let mut client = service.client();
    for procedure in [proc::COUNT, proc::COUNT_INLINE, proc::COUNT_ASYNC] {
        for expected in 1..=5_u64 {
            let counted = client.call(TEST, procedure, &[]);
            assert_eq!(field(&counted, "calls"), &Value::from(expected));
        }
    }
    // Three threads run it, and each has its own.
    assert_eq!(service.instances.load(std::sync::atomic::Ordering::SeqCst), 3);
}

#[test]
fn a_procedure_that_turns_slow_holds_up_neither_calls_nor_replies_while_another_worker_is_free() {
    let service = TestService::start();
    service.gate().open(0);
    let mut client = service.client();
    let gate = |serial: u32, door: u64| call(TEST, proc::GATE, serial, &map([("door", door.into())]));
    // It has been quick so far, so several calls travel together.
    for _ in 0..500 {
        client.call(TEST, proc::GATE, &map([("door", 0.into())]));
    }
    for round in 0..20 {
        let door = 10 + round;
        let before = service.gate().entered().len();
        let mut batch = vec![gate(1, 0), gate(2, door)];
        batch.extend((3..8).map(|serial| gate(serial, 0)));
        client.send(&batch.concat());
        let mut serials: Vec<u32> = (0..6).map(|_| client.packet().header.serial).collect();
        serials.sort_unstable();
        assert_eq!(serials, [1, 3, 4, 5, 6, 7]);
        service.gate().wait_for(before + 7);
        service.gate().open(door);
        client.reply(2);
    }
}
