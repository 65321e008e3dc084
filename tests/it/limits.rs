//! What happens at each limit: a client's own limits hold it without an error, the others answer and name themselves.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use postroom_protocol::keepalive;

use crate::support::*;

fn door(door: u64) -> Vec<u8> {
    map([("door", door.into())])
}

fn gate(serial: u32, number: u64) -> Vec<u8> {
    call(TEST, proc::GATE, serial, &door(number))
}

fn quick(serial: u32) -> Vec<u8> {
    call(ECHO, echo::QUICK, serial, &parcel(serial.into(), b""))
}

fn grow(bytes: u64) -> Vec<u8> {
    map([("bytes", bytes.into())])
}

fn pong(client: &mut Client) {
    let packet = client.packet();
    assert_eq!(packet.header.program, keepalive::PROGRAM, "{packet:?}");
    assert_eq!(packet.header.procedure, keepalive::PONG);
}

#[test]
fn a_client_beyond_max_clients_is_told_and_its_place_is_free_again_when_one_leaves() {
    let service = TestService::with_tcp(|config| config.limits.max_clients = 3);
    let mut clients = vec![service.client(), service.tcp_client(), service.client()];
    clients.iter_mut().for_each(Client::is_usable);
    for mut newcomer in [service.client(), service.tcp_client()] {
        let error = newcomer.announcement();
        assert_eq!(error.code(), "overloaded");
        assert_eq!(error.limit(), Some(("max_clients", 3)));
        assert!(error.retryable());
        assert!(error.retry_after_ms().is_some());
    }
    // Also one that has sent its call already.
    let mut newcomer = service.client();
    let _ = newcomer.try_send(&quick(1));
    assert_eq!(newcomer.announcement().code(), "overloaded");
    clients.iter_mut().for_each(Client::is_usable);
    clients.remove(0);
    eventually("a place is free", || {
        let mut client = service.client();
        let sent = client.try_send(&quick(1));
        sent.is_ok() && client.packet().header.serial == 1
    });
}

#[test]
fn places_are_given_back_however_clients_leave() {
    let service = TestService::with(|config| config.limits.max_clients = 2);
    for round in 0..50 {
        eventually("both places are free", || {
            let mut clients = [service.client(), service.client()];
            let sent = clients.iter_mut().all(|client| client.try_send(&quick(1)).is_ok());
            if !sent || clients.iter_mut().any(|client| client.packet().header.serial != 1) {
                return false;
            }
            match round % 4 {
                0 => {}
                1 => clients.iter_mut().for_each(|client| client.send(&[0, 0, 0, 9])),
                2 => clients.iter_mut().for_each(|client| client.send(&[0, 0, 1])),
                _ => clients.iter_mut().for_each(|client| client.send(&quick(2))),
            }
            true
        });
    }
}

#[test]
fn max_client_requests_and_the_backlog_hold_a_client_without_an_error() {
    let service = TestService::with(|config| {
        config.limits.min_workers = 4;
        config.limits.max_client_requests = 3;
        config.limits.max_client_backlog = 5;
    });
    let mut client = service.client();
    for serial in 0..20 {
        client.send(&gate(serial, serial.into()));
    }
    // A fourth worker is idle, and a fourth call does not start.
    service.gate().wait_for(3);
    client.silence(Duration::from_millis(50));
    let entered = || {
        let mut entered = service.gate().entered();
        entered.sort_unstable();
        entered
    };
    assert_eq!(entered(), [0, 1, 2]);
    // Others are unharmed.
    service.client().is_usable();
    // One that is done lets one more start.
    service.gate().open(1);
    client.reply(1);
    service.gate().wait_for(4);
    assert_eq!(entered(), [0, 1, 2, 3]);
    service.gate().open_all();
    let serials: HashSet<u32> = (0..19).map(|_| client.packet()).map(|p| (p.value(), p.header.serial).1).collect();
    assert_eq!(serials.len(), 19);
    assert_eq!(entered(), (0..20).collect::<Vec<u64>>());
    client.is_usable();
}

#[test]
fn a_client_that_makes_one_call_after_the_other_is_not_held_by_a_limit_of_one() {
    let service = TestService::with(|config| config.limits.max_client_requests = 1);
    let mut client = service.client();
    for serial in 0..1000 {
        client.send(&call(ECHO, echo::ECHO, serial, &parcel(serial.into(), b"")));
        client.reply(serial);
    }
    // Where a call comes before the worker has reported the reply that it has written, it is held for a moment; where the
    // hub did not look at reports before it read, nearly each was.
    let held = service.running().stats().limits.get("max_client_requests").copied().unwrap_or(0);
    assert!(held < 500, "{held} of 1000 calls");
}

#[test]
fn a_client_that_is_alone_is_idle_again_soon_after_each_reply_that_a_worker_has_written() {
    let service = TestService::start();
    let mut client = service.client();
    for serial in 0..5 {
        client.send(&call(ECHO, echo::ECHO, serial, &parcel(serial.into(), b"")));
        client.reply(serial);
        // Nobody else wakes the hub: it comes back for what it has handed on.
        eventually("it is idle", || service.running().stats().clients.idle == 1);
    }
}

#[test]
fn a_ping_is_answered_while_a_client_is_held_by_its_requests() {
    let service = TestService::with(|config| {
        config.limits.max_client_requests = 1;
        config.limits.max_client_backlog = 5;
    });
    let mut client = service.client();
    client.send(&[gate(1, 1), gate(2, 2), gate(3, 3)].concat());
    service.gate().wait_for(1);
    for _ in 0..3 {
        client.send(&keepalive::ping());
        pong(&mut client);
    }
    service.gate().open_all();
    (1..=3).for_each(|serial| drop(client.reply(serial)));
}

#[test]
fn a_full_backlog_leaves_the_rest_in_the_socket() {
    for bytes in [false, true] {
        let service = TestService::with(|config| {
            config.limits.max_client_requests = 1;
            match bytes {
                true => config.limits.max_client_backlog_bytes = 100_000,
                false => config.limits.max_client_backlog = 10,
            }
        });
        let client = service.client();
        client.writer().send(&gate(0, 0));
        service.gate().wait_for(1);
        let mut writer = client.writer();
        let sender = std::thread::spawn(move || {
            for serial in 1..200 {
                writer.send(&call(ECHO, echo::QUICK, serial, &parcel(serial.into(), &[0; 10_000])));
            }
        });
        // 2 MB do not fit into the socket, so the client is held by it.
        let mut reader = client;
        reader.silence(Duration::from_millis(100));
        assert!(!sender.is_finished());
        service.client().is_usable();
        service.gate().open_all();
        (0..200).for_each(|serial| drop(reader.reply(serial)));
        sender.join().unwrap();
    }
}

#[test]
fn pings_that_are_never_read_are_bounded_too() {
    let service = Binary::serve("max_client_output = \"256KiB\"\n");
    let before = service.usage().resident_kib();
    let client = service.client();
    client.set_patience(Duration::from_millis(500));
    let pings = keepalive::ping().repeat(1000);
    let mut writer = client.writer();
    let mut sent = 0;
    while sent < 100_000_000 && writer.try_send(&pings).is_ok() {
        sent += pings.len();
    }
    assert!(sent < 100_000_000, "the service takes pings without end");
    let grown = service.usage().resident_kib().saturating_sub(before);
    println!("unread pongs: {grown} KiB");
    assert!(grown < 4096, "{grown} KiB");
    service.client().is_usable();
}

#[test]
fn a_call_beyond_max_pending_calls_is_overloaded() {
    let service = TestService::with(|config| {
        config.limits.min_workers = 1;
        config.limits.max_pending_calls = 5;
    });
    let mut client = service.client();
    client.send(&gate(0, 0));
    service.gate().wait_for(1);
    // One by one, so that none is on its way when the next comes.
    for serial in 1..=5 {
        client.send(&gate(serial, serial.into()));
        client.is_usable();
    }
    for serial in 6..10 {
        client.send(&gate(serial, serial.into()));
        let error = client.error(serial);
        assert_eq!(error.code(), "overloaded");
        assert_eq!(error.limit(), Some(("max_pending_calls", 5)));
        assert!(error.retryable());
        assert!(error.retry_after_ms().is_some_and(|ms| ms > 0), "{error:?}");
    }
    service.gate().open_all();
    (0..=5).for_each(|serial| drop(client.reply(serial)));
    // There is room again.
    client.call(TEST, proc::GATE, &door(0));
}

#[test]
fn a_call_beyond_max_pending_bytes_is_overloaded() {
    let service = TestService::with(|config| {
        config.limits.min_workers = 1;
        config.limits.max_pending_bytes = 100_000;
    });
    let mut client = service.client();
    client.send(&gate(0, 0));
    service.gate().wait_for(1);
    let big = |serial| call(ECHO, echo::ECHO, serial, &parcel(serial.into(), &[0; 60_000]));
    // The second exceeds the bound, as one may.
    for serial in 1..=2 {
        client.send(&big(serial));
        client.is_usable();
    }
    client.send(&big(3));
    let error = client.error(3);
    assert_eq!(error.code(), "overloaded");
    assert_eq!(error.limit(), Some(("max_pending_bytes", 100_000)));
    assert!(error.retry_after_ms().is_some());
    service.gate().open_all();
    (0..=2).for_each(|serial| drop(client.reply(serial)));
    client.send(&big(4));
    client.reply(4);
}

#[test]
fn one_call_of_max_packet_works_under_the_smallest_bounds() {
    let service = TestService::with(|config| {
        let limits = &mut config.limits;
        limits.max_packet = 1 << 20;
        limits.max_client_backlog_bytes = 1024;
        limits.max_client_output = 1024;
        limits.max_pending_bytes = 1024;
        limits.max_client_requests = 1;
        limits.max_client_backlog = 1;
        limits.min_workers = 1;
    });
    let client = service.client();
    for procedure in [echo::ECHO, echo::QUICK, echo::MIRROR] {
        let payload = parcel(1, &vec![3; (1 << 20) - 100]);
        let mut writer = client.writer();
        let bytes = [call(ECHO, procedure, 1, &payload), call(ECHO, procedure, 2, &payload)].concat();
        let sender = std::thread::spawn(move || writer.send(&bytes));
        let mut reader = client.writer();
        assert!(reader.reply(1) == reader.reply(2));
        sender.join().unwrap();
    }
}

#[test]
fn calls_beyond_max_async_calls_wait_and_are_answered() {
    let service = TestService::with(|config| {
        config.limits.async_workers = 2;
        config.limits.max_async_calls = 2;
    });
    let mut client = service.client();
    for serial in 0..20 {
        client.send(&call(TEST, proc::GATE_ASYNC, serial, &door(serial.into())));
    }
    assert_eq!(service.gate().wait_for(4).len(), 4);
    client.silence(Duration::from_millis(50));
    assert_eq!(service.gate().entered().len(), 4);
    // Others, and other classes, are unharmed.
    service.client().call(ECHO, echo::ECHO, &parcel(1, b""));
    service.client().call(ECHO, echo::QUICK, &parcel(1, b""));
    let first = service.gate().entered()[0];
    service.gate().open(first);
    client.reply(first as u32);
    assert_eq!(service.gate().wait_for(5).len(), 5);
    service.gate().open_all();
    let serials: HashSet<u32> = (0..19).map(|_| client.packet()).map(|p| (p.value(), p.header.serial).1).collect();
    assert_eq!(serials.len(), 19);
}

#[test]
fn async_calls_that_wait_count_as_pending() {
    let service = TestService::with(|config| {
        config.limits.max_async_calls = 1;
        config.limits.max_pending_calls = 2;
    });
    let mut client = service.client();
    for serial in 0..3 {
        client.send(&call(TEST, proc::GATE_ASYNC, serial, &door(serial.into())));
        client.call(ECHO, echo::QUICK, &parcel(1, b""));
    }
    client.send(&call(TEST, proc::GATE_ASYNC, 3, &door(3)));
    let error = client.error(3);
    assert_eq!((error.code().as_str(), error.limit()), ("overloaded", Some(("max_pending_calls", 2))));
    service.gate().open_all();
    (0..3).for_each(|serial| drop(client.reply(serial)));
}

#[test]
fn while_all_workers_are_blocked_inline_and_async_calls_and_pings_are_answered() {
    let service = TestService::with(|config| config.limits.min_workers = 1);
    let mut client = service.client();
    client.send(&[gate(1, 1), gate(2, 2)].concat());
    service.gate().wait_for(1);
    client.call(ECHO, echo::QUICK, &parcel(1, b""));
    client.call(ECHO, echo::MIRROR, &encode("async"));
    client.call(DIRECTORY, 2, &[]);
    client.send(&keepalive::ping());
    pong(&mut client);
    // Also for a newcomer.
    service.client().is_usable();
    service.gate().open_all();
    client.reply(1);
    client.reply(2);
}

#[test]
fn a_priority_call_is_taken_before_ordinary_ones_that_wait() {
    let service = TestService::with(|config| config.limits.min_workers = 1);
    let mut client = service.client();
    client.send(&gate(1, 1));
    service.gate().wait_for(1);
    for serial in 2..5 {
        client.send(&gate(serial, serial.into()));
        client.is_usable();
    }
    client.send(&call(TEST, proc::GATE_PRIORITY, 5, &door(5)));
    client.is_usable();
    service.gate().open_all();
    service.gate().wait_for(5);
    assert_eq!(service.gate().entered(), [1, 5, 2, 3, 4]);
    (0..5).for_each(|_| drop(client.packet().value()));
}

#[test]
fn no_call_waits_while_a_worker_is_idle() {
    let service = TestService::with(|config| config.limits.min_workers = 4);
    let mut client = service.client();
    for round in 0..50_u64 {
        let base = round * 4;
        for index in 0..4 {
            client.send(&gate(index, base + u64::from(index)));
        }
        // All four have to come to the gate, though none is open.
        service.gate().wait_for(base as usize + 4);
        (0..4).for_each(|index| service.gate().open(base + index));
        (0..4).for_each(|_| drop(client.packet().value()));
    }
}

#[test]
fn big_results_hold_a_client_and_are_all_delivered() {
    let service = TestService::with(|config| config.limits.max_client_output = 100_000);
    let mut client = service.client();
    for serial in 0..40 {
        client.send(&call(TEST, [proc::GROW, proc::GROW_INLINE][serial as usize % 2], serial, &grow(1_000_000)));
    }
    let mut serials = HashSet::new();
    for _ in 0..40 {
        let reply = client.packet();
        assert_eq!(reply.value()["data"].as_slice().map(<[u8]>::len), Some(1_000_000));
        assert!(serials.insert(reply.header.serial));
    }
    client.is_usable();
}

#[test]
fn one_client_with_many_calls_does_not_hold_up_an_inline_call_of_another() {
    let service = TestService::with(|config| config.limits.io_arbiters = 1);
    let greedy = service.client();
    let mut writer = greedy.writer();
    let sender = std::thread::spawn(move || {
        for serial in 0..50_000 {
            if writer.try_send(&quick(serial)).is_err() {
                break;
            }
        }
    });
    let mut reader = greedy;
    let receiver = std::thread::spawn(move || (0..50_000).for_each(|_| drop(reader.packet())));
    let mut other = service.client();
    let mut answered = 0;
    while !receiver.is_finished() {
        other.call(ECHO, echo::QUICK, &parcel(1, b""));
        answered += 1;
    }
    sender.join().unwrap();
    receiver.join().unwrap();
    // If it had to wait for what the other has sent, it would be one or two.
    println!("{answered} calls beside 50,000");
    assert!(answered >= 20, "{answered} calls beside 50,000");
}

/// A client's sender in a thread of its own, and how many calls it has written.
fn sender(
    client: &Client,
    calls: u32,
    make: impl Fn(u32) -> Vec<u8> + Send + 'static,
) -> (JoinHandle<()>, Arc<AtomicU32>) {
    let mut writer = client.writer();
    let written = Arc::new(AtomicU32::new(0));
    let count = written.clone();
    let sender = std::thread::spawn(move || {
        for serial in 0..calls {
            if writer.try_send(&make(serial)).is_err() {
                return;
            }
            count.store(serial + 1, Relaxed);
        }
    });
    (sender, written)
}

/// Waits until nothing more is written.
fn stalls(written: &[Arc<AtomicU32>]) {
    let now = || written.iter().map(|count| count.load(Relaxed)).collect::<Vec<_>>();
    let mut before = now();
    let mut unchanged = 0;
    eventually("the senders are held", || {
        let now = now();
        unchanged = if now == before { unchanged + 1 } else { 0 };
        before = now;
        unchanged == 40
    });
}

#[test]
fn a_client_that_writes_ten_thousand_calls_before_it_reads_a_reply_is_served_completely() {
    let service = TestService::start();
    for procedure in [echo::ECHO, echo::QUICK, echo::MIRROR] {
        let mut client = service.client();
        let (sender, written) =
            sender(&client, 10_000, move |serial| call(ECHO, procedure, serial, &parcel(serial.into(), b"x")));
        stalls(&[written]);
        let mut seen = vec![false; 10_000];
        for _ in 0..10_000 {
            let reply = client.packet();
            assert_eq!(reply.value()["id"], reply.header.serial.into());
            assert!(!std::mem::replace(&mut seen[reply.header.serial as usize], true));
        }
        sender.join().unwrap();
        client.is_usable();
    }
}

#[test]
fn four_clients_that_never_read_cost_less_than_48_mib_together() {
    let service = Binary::serve("");
    let mut other = service.client();
    other.is_usable();
    let before = service.usage().resident_kib();
    let clients: Vec<Client> = (0..4).map(|_| service.client()).collect();
    let mut held = Vec::new();
    for (client, procedure) in clients.iter().zip([echo::ECHO, echo::QUICK, echo::MIRROR, echo::ECHO]) {
        // 80 MB each.
        held.push(sender(client, 2000, move |serial| call(ECHO, procedure, serial, &parcel(0, &[1; 40_000]))));
    }
    stalls(&held.iter().map(|(_, written)| written.clone()).collect::<Vec<_>>());
    assert!(held.iter().all(|(sender, _)| !sender.is_finished()));
    let grown = service.usage().resident_kib().saturating_sub(before);
    println!("4 clients that never read: {grown} KiB");
    assert!(grown < 48 * 1024, "{grown} KiB");
    other.is_usable();
    drop(service);
    held.into_iter().for_each(|(sender, _)| sender.join().unwrap());
}
