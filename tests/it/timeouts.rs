//! Times that run against a client, and those that do not.

use std::time::{Duration, Instant};

use postroom::{Config, Error};
use postroom_protocol::keepalive;
use rustix::process::Signal;

use crate::support::*;

const SHORT: Duration = Duration::from_millis(200);

fn short(config: &mut Config) {
    config.limits.first_packet_timeout = SHORT;
    config.limits.packet_timeout = SHORT;
}

/// Checks that the client is told which time is over, and not too early.
fn is_told(client: &mut Client, since: Instant, key: &str) {
    is_late(&client.announcement(), since, key);
}

fn is_late(error: &Error, since: Instant, key: &str) {
    let took = since.elapsed();
    assert_eq!(error.code(), "packet_timeout");
    assert_eq!(error.limit(), Some((key, 200)));
    assert!(took >= SHORT - Duration::from_millis(5), "{key} after {took:?}");
    assert!(took < PATIENCE / 2, "{key} after {took:?}");
}

#[test]
fn a_client_that_never_says_anything_is_told_and_closed() {
    let service = TestService::with_tcp(|config| config.limits.first_packet_timeout = SHORT);
    let since = Instant::now();
    let mut clients = [service.client(), service.tcp_client(), service.client()];
    // A part of a packet is no packet. It may be told before it has sent that.
    let _ = clients[2].try_send(&[0, 0]);
    clients.iter_mut().for_each(|client| is_told(client, since, "first_packet_timeout"));
}

#[test]
fn a_packet_that_does_not_end_is_told_and_closed() {
    let service = TestService::with_tcp(|config| config.limits.packet_timeout = SHORT);
    let bytes = call(ECHO, echo::MIRROR, 1, &encode(&"x".repeat(100)));
    for cut in [1, 27, 28, 100] {
        for mut client in [service.client(), service.tcp_client()] {
            client.is_usable();
            let since = Instant::now();
            client.send(&bytes[..cut]);
            is_told(&mut client, since, "packet_timeout");
        }
    }
}

#[test]
fn bytes_that_trickle_in_do_not_prolong_the_time_of_a_packet() {
    let service = TestService::with(|config| config.limits.packet_timeout = SHORT);
    let mut client = service.client();
    client.is_usable();
    let since = Instant::now();
    let mut writer = client.writer();
    let trickle = std::thread::spawn(move || {
        for byte in call(ECHO, echo::MIRROR, 1, &encode(&"x".repeat(1000))) {
            std::thread::sleep(Duration::from_millis(5));
            if writer.try_send(&[byte]).is_err() {
                break;
            }
        }
    });
    is_late(&client.announcement_while_sending(), since, "packet_timeout");
    drop(client);
    trickle.join().unwrap();
}

#[test]
fn the_body_of_a_packet_that_is_skipped_has_no_more_time_than_another() {
    let service = TestService::with(|config| {
        config.limits.packet_timeout = SHORT;
        config.limits.max_packet = 1024;
    });
    let mut client = service.client();
    let since = Instant::now();
    client.send(&header(ECHO, 1, 1, 5).encode(2000));
    assert_eq!(client.error(5).code(), "too_large");
    is_told(&mut client, since, "packet_timeout");
}

#[test]
fn a_client_that_is_idle_between_packets_is_not_cut() {
    let service = TestService::with_tcp(short);
    let mut clients = [let_in(|| service.client()), let_in(|| service.tcp_client())];
    for _ in 0..2 {
        std::thread::sleep(SHORT * 3);
        clients.iter_mut().for_each(Client::is_usable);
    }
    // A ping is a first packet as good as any, if it is there in time.
    let mut client = eventually_some("a ping is answered", || {
        let mut client = service.client();
        let sent = client.try_send(&keepalive::ping());
        (sent.is_ok() && client.packet().header.program == keepalive::PROGRAM).then_some(client)
    });
    std::thread::sleep(SHORT * 2);
    client.is_usable();
}

#[test]
fn a_client_whose_call_runs_long_is_not_cut() {
    let service = TestService::with(short);
    let mut client = let_in(|| service.client());
    client.send(&call(TEST, proc::GATE, 1, &map([("door", 1.into())])));
    client.silence(SHORT * 3);
    service.gate().open_all();
    client.reply(1);
    client.is_usable();
}

#[test]
fn the_time_of_a_packet_does_not_run_while_its_client_is_held_by_the_backlog() {
    let service = TestService::with(|config| {
        short(config);
        config.limits.max_client_requests = 1;
        config.limits.max_client_backlog = 1;
    });
    let mut client = let_in(|| service.client());
    let last = call(ECHO, echo::QUICK, 2, &parcel(2, b"last"));
    client.send(
        &[
            call(TEST, proc::GATE, 0, &map([("door", 1.into())])),
            call(ECHO, echo::QUICK, 1, &parcel(1, b"")),
            last[..10].to_vec(),
        ]
        .concat(),
    );
    service.gate().wait_for(1);
    client.silence(SHORT * 3);
    // The rest is there when the time begins to run again.
    client.send(&last[10..]);
    service.gate().open_all();
    (0..3).for_each(|serial| drop(client.reply(serial)));
}

#[test]
fn what_came_while_the_service_was_stopped_is_read_before_its_time_is_over() {
    // Longer than the machine may stand still before the service is stopped.
    let timeout = Duration::from_secs(2);
    let service = Binary::serve("packet_timeout = \"2s\"\n");
    let mut client = service.client();
    client.is_usable();
    let bytes = call(ECHO, echo::QUICK, 1, &parcel(1, b"in two halves"));
    let (first, rest) = bytes.split_at(20);
    client.send(first);
    // Whoever connects and is answered later, on each arbiter, was read later.
    (0..8).for_each(|_| service.client().is_usable());
    service.signal(Signal::STOP);
    eventually("it has stopped", || service.usage().is_stopped());
    client.send(rest);
    std::thread::sleep(timeout * 3 / 2);
    service.signal(Signal::CONT);
    client.reply(1);
}

#[test]
fn a_client_that_reads_slowly_but_steadily_is_not_cut() {
    // Longer than the machine may stand still, and much shorter than all of it takes.
    let timeout = Duration::from_secs(2);
    let service = TestService::with(|config| config.limits.write_timeout = timeout);
    let mut client = service.client();
    client.writer().send(&call(ECHO, echo::QUICK, 1, &parcel(1, &vec![0; 3_000_000])));
    let since = Instant::now();
    let mut left = 3_000_000_usize;
    while left > 0 {
        std::thread::sleep(timeout / 8);
        let read = client.bytes(250_000).len();
        assert!(read > 0, "cut with {left} bytes left");
        left = left.saturating_sub(read);
    }
    assert!(since.elapsed() > timeout * 5 / 4, "{:?} is no longer than the time for a single byte", since.elapsed());
}
