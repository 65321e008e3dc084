//! Pings from the service, and clients that are idle for too long.

use std::time::Duration;

use postroom::Config;
use postroom_protocol::{PacketType, Status, keepalive};

use crate::support::*;

const INTERVAL: Duration = Duration::from_millis(100);

fn quick(config: &mut Config) {
    config.limits.keepalive_interval = INTERVAL;
    config.limits.keepalive_count = 3;
}

fn hello(client: &mut Client) {
    client.call(DIRECTORY, 1, &map([("client", "t".into()), ("version", "1".into())]));
}

#[track_caller]
fn is_ping(packet: &Packet) {
    assert_eq!(packet.header.packet_type, PacketType::Event, "{packet:?}");
    assert_eq!(keepalive::classify(&packet.header), Some(keepalive::Keepalive::Ping), "{packet:?}");
}

#[test]
fn a_client_without_keepalive_is_left_alone() {
    let service = TestService::with(quick);
    let mut client = service.client();
    client.is_usable();
    client.silence(INTERVAL * 8);
    client.is_usable();
}

/// Pings of the service, each answered by `answer`, for longer than the service would wait for one answer; and at the
/// end a call is answered. So many pings may stay unanswered that a client is not cut because the machine is slow.
fn is_kept(client: &mut Client, mut answer: impl FnMut(&mut Client, u32)) {
    for serial in 0..PATIENT + 5 {
        is_ping(&client.packet());
        answer(client, serial);
    }
    client.send(&call(ECHO, echo::QUICK, u32::MAX, &parcel(1, b"")));
    reply_behind_pings(client, u32::MAX);
}

const PATIENT: u32 = 30;

fn patient(config: &mut Config) {
    config.limits.keepalive_interval = INTERVAL;
    config.limits.keepalive_count = PATIENT;
}

/// The reply to a call, before which the service may ping.
#[track_caller]
fn reply_behind_pings(client: &mut Client, serial: u32) {
    loop {
        let packet = client.packet();
        if packet.header.packet_type == PacketType::Reply {
            assert_eq!((packet.header.serial, packet.header.status), (serial, Status::Ok), "{packet:?}");
            return;
        }
        is_ping(&packet);
    }
}

#[test]
fn a_client_that_answers_pings_is_kept() {
    let service = TestService::with_tcp(patient);
    std::thread::scope(|scope| {
        for mut client in [service.client(), service.tcp_client()] {
            scope.spawn(move || {
                hello(&mut client);
                is_kept(&mut client, |client, _| client.send(&keepalive::pong()));
            });
        }
    });
}

#[test]
fn a_client_that_has_sent_a_ping_is_pinged_and_any_packet_counts_as_an_answer() {
    let service = TestService::with(patient);
    let mut client = service.client();
    client.send(&keepalive::ping());
    assert_eq!(keepalive::classify(&client.packet().header), Some(keepalive::Keepalive::Pong));
    is_kept(&mut client, |client, serial| {
        client.send(&call(ECHO, echo::QUICK, serial, &parcel(1, b"")));
        reply_behind_pings(client, serial);
    });
}

#[test]
fn a_client_for_which_a_handler_enables_keepalive_is_pinged_and_ends_when_it_does_not_answer() {
    let service = TestService::with_tcp(quick);
    for mut client in [service.client(), service.tcp_client()] {
        client.call(TEST, proc::KEEPALIVE, b"");
        for _ in 0..5 {
            is_ping(&client.packet());
            client.send(&keepalive::pong());
        }
        client.call(TEST, proc::KEEPALIVE, b"");
        for _ in 0..3 {
            is_ping(&client.packet());
        }
        assert_eq!(client.announcement().code(), "keepalive_timeout");
    }
}

#[test]
fn a_client_that_does_not_answer_is_told_and_closed_and_its_calls_are_cancelled() {
    let service = TestService::with(quick);
    let mut client = service.client();
    client.send(&call(TEST, proc::GATE_ASYNC, 5, &map([("door", 1.into())])));
    service.gate().wait_for(1);
    // From here on it is pinged, and says nothing.
    hello(&mut client);
    for _ in 0..3 {
        is_ping(&client.packet());
    }
    let error = client.announcement();
    assert_eq!(error.code(), "keepalive_timeout");
    assert_eq!(error.limit(), Some(("keepalive_count", 3)));
    // The gate stays shut: the call ends because nobody waits for it.
    eventually("the call is cancelled", || {
        let stats = service.running().stats();
        let gate = stats.procedures.iter().find(|procedure| procedure.name == "test.gate_async").unwrap();
        gate.in_progress == 0 && gate.outcomes.get("cancelled") == Some(&1)
    });
}

#[test]
fn a_client_without_a_call_for_idle_timeout_is_told_and_closed_and_one_whose_call_runs_is_not() {
    // Longer than the machine may stand still between two lines.
    let service = TestService::with(|config| config.limits.idle_timeout = Duration::from_secs(2));
    let mut busy = service.client();
    busy.send(&call(TEST, proc::GATE, 5, &map([("door", 1.into())])));
    let mut idle = service.client();
    idle.is_usable();
    let error = idle.announcement();
    assert_eq!(error.code(), "idle_timeout");
    assert_eq!(error.limit(), Some(("idle_timeout", 2000)));
    service.gate().open_all();
    busy.reply(5);
    assert_eq!(busy.announcement().code(), "idle_timeout");
}
