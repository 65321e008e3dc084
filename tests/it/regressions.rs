//! Faults that were found once, each by a test that failed: clients stuck or spinning, calls lost to a neighbour's
//! fault, buffers held by what is small.

use std::collections::HashSet;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use postroom::{Address, Config, Limits, Service};
use rmpv::Value;

use crate::support::*;

fn door(door: u64) -> Vec<u8> {
    map([("door", door.into())])
}

fn gate(serial: u32, number: u64) -> Vec<u8> {
    call(TEST, proc::GATE, serial, &door(number))
}

#[test]
fn a_client_that_does_not_read_is_held_by_max_client_output_and_others_are_unharmed() {
    // However long it takes until each of them reads.
    let config = "max_client_output = \"1MiB\"\nio_arbiters = 1\nmin_workers = 2\nwrite_timeout = \"1h\"\n";
    let service = Binary::serve(config);
    let mut other = service.client();
    other.is_usable();
    let before = service.usage().resident_kib();
    let clients: Vec<Client> = (0..8).map(|_| service.client()).collect();
    let senders: Vec<_> = clients
        .iter()
        .zip([echo::ECHO, echo::QUICK, echo::MIRROR].into_iter().cycle())
        .map(|(client, procedure)| {
            let mut writer = client.writer();
            std::thread::spawn(move || {
                // 40 MB.
                (0..400).for_each(|serial| writer.send(&call(ECHO, procedure, serial, &parcel(0, &[1; 100_000]))));
            })
        })
        .collect();
    for _ in 0..50 {
        other.is_usable();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(senders.iter().all(|sender| !sender.is_finished()));
    // Output, backlog and one packet beyond each, twice for what the allocator keeps.
    let grown = service.usage().resident_kib().saturating_sub(before);
    println!("8 clients that do not read: {grown} KiB");
    assert!(grown < 8 * 2 * (1024 + 2048 + 200), "{grown} KiB");
    std::thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || (0..400).for_each(|_| drop(client.packet().value())));
        }
    });
    senders.into_iter().for_each(|sender| sender.join().unwrap());
}

#[test]
fn a_client_that_does_not_read_costs_no_processor_time() {
    let service = Binary::serve("io_arbiters = 1\nwrite_timeout = \"1h\"\n");
    for procedure in [echo::ECHO, echo::QUICK, echo::MIRROR] {
        let client = service.client();
        let mut writer = client.writer();
        // More than the socket takes, and less than `max_client_output`.
        writer.send(&call(ECHO, procedure, 1, &parcel(1, &vec![1; 2_000_000])));
        eventually("replies are waiting", || rustix::io::ioctl_fionread(&client).unwrap() > 100_000);
        eventually_rests(service.usage(), Duration::from_millis(500), Duration::from_millis(150));
        let mut reader = client;
        reader.reply(1);
    }
}

#[test]
fn a_client_that_was_held_by_its_output_gets_all_replies_in_the_end() {
    let service = TestService::with(|config| {
        config.limits.io_arbiters = 1;
        config.limits.max_client_output = 100_000;
    });
    for round in 0..30 {
        let client = service.client();
        let mut writer = client.writer();
        let sender = std::thread::spawn(move || {
            (0..60).for_each(|serial| writer.send(&call(ECHO, echo::QUICK, serial, &parcel(round, &[1; 30_000]))));
        });
        let mut reader = client;
        let serials: HashSet<u32> = (0..60).map(|_| reader.packet()).map(|p| (p.value(), p.header.serial).1).collect();
        assert_eq!(serials.len(), 60);
        sender.join().unwrap();
    }
}

#[test]
fn the_time_of_a_packet_does_not_run_while_its_client_is_held_by_its_output() {
    // Longer than the machine may stand still before the client is held, or when it is held no more.
    let timeout = Duration::from_secs(2);
    let service = TestService::with(|config| {
        config.limits.io_arbiters = 1;
        config.limits.min_workers = 1;
        config.limits.packet_timeout = timeout;
        config.limits.max_client_output = 100_000;
    });
    service.gate().open(0);
    let mut other = service.client();
    other.send(&gate(0, 1));
    service.gate().wait_for(1);
    // The first half of a packet is there before the reply that takes the output over its bound.
    let mut client = service.client();
    let second = call(ECHO, echo::QUICK, 2, &parcel(2, b"second"));
    let first = call(TEST, proc::GROW, 1, &map([("bytes", 3_000_000.into())]));
    client.send(&[&first[..], &second[..20]].concat());
    service.client().is_usable();
    service.gate().open(1);
    other.reply(0);
    std::thread::sleep(timeout * 3 / 2);
    client.reply(1);
    client.send(&second[20..]);
    client.reply(2);
}

#[test]
fn a_client_that_leaves_replies_unread_is_cut() {
    let service = Binary::serve("write_timeout = \"200ms\"\n");
    let mut client = service.client();
    client.send(&call(ECHO, echo::QUICK, 1, &parcel(1, &vec![0; 3_000_000])));
    eventually("it is cut, and the log says why", || service.log().contains("write_timeout"));
    // What was sent before can still be read, then comes the end, in the middle of the reply.
    let error = client.try_packet().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
    service.client().is_usable();
}

#[test]
fn a_panicking_future_costs_its_own_call_only() {
    let service = TestService::with(|config| config.limits.async_workers = 1);
    let mut clients: Vec<Client> = (0..4).map(|_| service.client()).collect();
    for round in 0..30 {
        for client in &mut clients {
            for serial in 0..40 {
                let (procedure, payload) = match serial % 2 {
                    0 => (proc::PANIC_FUTURE, map([("yields", (u64::from(serial) % 7 + round % 5).into())])),
                    _ => (proc::COUNT_ASYNC, Vec::new()),
                };
                client.send(&call(TEST, procedure, serial, &payload));
            }
        }
        for client in &mut clients {
            let mut seen = [false; 40];
            for _ in 0..40 {
                let reply = client.packet();
                let serial = reply.header.serial;
                assert!(!std::mem::replace(&mut seen[serial as usize], true), "two replies to {serial}");
                match serial % 2 {
                    0 => assert_eq!(reply.error().code(), "internal"),
                    _ => drop(reply.value()),
                }
            }
        }
    }
}

#[test]
fn hello_takes_its_three_fields_as_an_array_too() {
    let service = TestService::start();
    let mut client = service.client();
    client.call(DIRECTORY, 1, &encode(&Value::Array(vec!["tests".into(), "1".into(), 1000.into()])));
}

#[test]
fn an_error_of_a_handler_that_is_over_the_limit_is_cut_to_it() {
    let service = TestService::with(|config| config.limits.max_packet = 4096);
    let mut client = service.client();
    client.send(&call(TEST, proc::GROW_ERROR, 1, &map([("bytes", 100_000.into())])));
    let reply = client.packet();
    reply.error();
    assert!(reply.payload.len() + 28 <= 4096, "{} bytes", reply.payload.len());
}

#[test]
fn what_was_taken_from_a_stuck_worker_does_not_get_stuck_behind_the_next_one() {
    let service = TestService::start();
    service.gate().open(0);
    let mut client = service.client();
    // It has been quick so far, so several calls travel together.
    for _ in 0..40 {
        client.send(&(0..100).flat_map(|serial| gate(serial, 0)).collect::<Vec<u8>>());
        (0..100).for_each(|_| drop(client.packet().value()));
    }
    let before = service.gate().entered().len();
    client.send(&[gate(1, 1), gate(2, 2), gate(3, 3), gate(4, 0), gate(5, 0)].concat());
    // Both workers are stuck, and the rest waits.
    service.gate().wait_for(before + 2);
    client.silence(Duration::from_millis(30));
    service.gate().open(1);
    service.gate().wait_for(before + 3);
    service.gate().open(2);
    // The third call is at its gate; one worker is free for the last two.
    let mut serials: Vec<u32> = (0..4).map(|_| client.packet().header.serial).collect();
    serials.sort_unstable();
    assert_eq!(serials, [1, 2, 4, 5]);
    service.gate().open_all();
    client.reply(3);
}

#[test]
fn limits_out_of_their_range_are_an_error_at_the_start() {
    let changes: [fn(&mut Limits); 6] = [
        |limits| limits.min_workers = 0,
        |limits| limits.async_workers = 0,
        |limits| limits.max_async_calls = 0,
        |limits| limits.io_arbiters = 0,
        |limits| limits.max_client_requests = 0,
        |limits| limits.max_client_backlog = 0,
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { listen: vec![Address::Unix(folder.path().join("socket"))], ..Config::default() };
        change(&mut config.limits);
        assert!(Service::new(config).start().is_err(), "change {index}");
    }
}

#[test]
fn a_live_socket_whose_backlog_is_full_is_an_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let family = rustix::net::AddressFamily::UNIX;
    let listener = rustix::net::socket(family, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&listener, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _waiting = UnixStream::connect(&path).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let config = Config { listen: vec![Address::Unix(path)], ..Config::default() };
        tell.send(Service::new(config).start().is_err()).unwrap();
    });
    let is_error = told.recv_timeout(PATIENCE);
    // Lets the thread end in any case.
    drop(listener);
    assert_eq!(is_error, Ok(true), "it hangs");
}

#[test]
fn a_printed_configuration_serves_where_the_default_would() {
    let runtime = tempfile::tempdir().unwrap();
    let config = Binary::command().arg("config").env("XDG_RUNTIME_DIR", runtime.path()).output().unwrap();
    assert!(config.status.success());
    let file = runtime.path().join("printed.toml");
    std::fs::write(&file, config.stdout).unwrap();
    let mut command = Binary::command();
    command.args(["serve", "--config"]).arg(&file).env("XDG_RUNTIME_DIR", runtime.path());
    let service = Binary::spawn(command, runtime);
    service.client().is_usable();
}

/// A slow client's small replies lie in the same buffers as those of a busy one.
#[test]
fn unread_small_replies_do_not_hold_the_big_buffers_that_they_came_in() {
    let service = Binary::serve("io_arbiters = 1\n");
    let slow = service.client();
    // More than the socket takes is left unread, but less than the client's bound.
    slow.writer().send(&call(ECHO, echo::QUICK, 0, &parcel(0, &[0; 1_000_000])));
    let busy = service.client();
    let mut busy_writer = busy.writer();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let sender = std::thread::spawn(move || {
        let batch: Vec<u8> = (0..16).flat_map(|s| call(ECHO, echo::QUICK, s, &parcel(0, &[0; 15_000]))).collect();
        let deadline = Instant::now() + PATIENCE;
        while !stopped.load(std::sync::atomic::Ordering::SeqCst) && Instant::now() < deadline {
            if busy_writer.try_send(&batch).is_err() {
                break;
            }
        }
        busy_writer.half_close();
    });
    let receiver = std::thread::spawn(move || {
        let mut busy = busy;
        while let Ok(Some(_)) = busy.try_packet() {}
    });
    let before = service.usage().resident_kib();
    let mut writer = slow.writer();
    for serial in 1..200 {
        writer.send(&call(ECHO, echo::QUICK, serial, &parcel(0, b"")));
        std::thread::sleep(Duration::from_millis(3));
    }
    let grown = service.usage().resident_kib().saturating_sub(before);
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    sender.join().unwrap();
    receiver.join().unwrap();
    println!("200 small unread replies: {grown} KiB");
    assert!(grown < 14 * 1024, "{grown} KiB for 200 small replies");
}

#[test]
fn control_replies_beyond_the_output_bound_hold_a_client_and_are_all_delivered() {
    let service = TestService::with(|config| {
        config.limits.io_arbiters = 1;
        config.limits.max_client_output = 1024;
    });
    let mut client = service.client();
    // All in one read: far more is to be answered than may wait, so the rest is split later, and in order.
    let pings = postroom_protocol::keepalive::ping().repeat(1000);
    client.send(&[&pings[..], &call(ECHO, echo::QUICK, 7, &parcel(7, b"behind"))].concat());
    for _ in 0..1000 {
        assert_eq!(client.packet().header.program, postroom_protocol::keepalive::PROGRAM);
    }
    client.reply(7);
    let refused = (0..1000).flat_map(|serial| call(0xdead, 1, serial, &[]));
    client.send(&refused.collect::<Vec<u8>>());
    for serial in 0..1000 {
        assert_eq!(client.error(serial).code(), "unknown_program");
    }
    client.is_usable();
}

#[test]
fn no_client_of_many_is_forgotten_when_its_socket_takes_bytes_again() {
    let service = TestService::with(|config| config.limits.io_arbiters = 1);
    let threads: Vec<_> = (0..100)
        .map(|_| {
            let client = service.client();
            std::thread::spawn(move || {
                let mut writer = client.writer();
                let sender = std::thread::spawn(move || {
                    for serial in 0..60 {
                        let bytes = map([("bytes", 250_000.into())]);
                        if writer.try_send(&call(TEST, proc::GROW_INLINE, serial, &bytes)).is_err() {
                            break;
                        }
                    }
                });
                let mut reader = client;
                let replies = (0..60).take_while(|_| matches!(reader.try_packet(), Ok(Some(_)))).count();
                sender.join().unwrap();
                replies
            })
        })
        .collect();
    let replies: Vec<usize> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(replies.iter().all(|&replies| replies == 60), "{replies:?}");
}
