//! The end of a client's input is not the end of its replies.

use std::collections::HashSet;

use crate::support::*;

const CLIENTS: u32 = 300;

/// Half-closed calls of one procedure on 300 connections at once.
fn half_closed_calls(service: &TestService, program: u32, procedure: i32, payload: &[u8]) {
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| service.client()).collect();
    for (serial, client) in (0..).zip(&mut clients) {
        client.send(&call(program, procedure, serial, payload));
        client.half_close();
    }
    for (serial, client) in (0..).zip(&mut clients) {
        client.reply(serial);
        client.end();
    }
}

#[test]
fn three_hundred_half_closed_calls_have_three_hundred_replies() {
    let service = TestService::start();
    half_closed_calls(&service, ECHO, echo::ECHO, &parcel(1, b"half"));
    half_closed_calls(&service, ECHO, echo::QUICK, &parcel(1, b"half"));
    half_closed_calls(&service, ECHO, echo::MIRROR, &encode("half"));
    half_closed_calls(&service, ECHO, echo::SLEEP, &map([("ms", 20.into())]));
    half_closed_calls(&service, TEST, proc::GROW, &map([("bytes", 200_000.into())]));
}

#[test]
fn three_hundred_half_closed_calls_over_tcp_have_three_hundred_replies() {
    let service = TestService::with_tcp(|_| {});
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| service.tcp_client()).collect();
    for (serial, client) in (0..).zip(&mut clients) {
        client.send(&call(ECHO, echo::ECHO, serial, &parcel(1, b"half")));
        client.half_close();
    }
    for (serial, client) in (0..).zip(&mut clients) {
        client.reply(serial);
        client.end();
    }
}

#[test]
fn three_hundred_clients_with_fifty_calls_each_have_all_replies_and_each_once() {
    let service = TestService::start();
    let procedures = [echo::ECHO, echo::QUICK, echo::MIRROR];
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| service.client()).collect();
    for client in &mut clients {
        let calls = (0..50)
            .map(|serial| call(ECHO, procedures[serial as usize % 3], serial, &parcel(serial.into(), &[b'x'; 100])));
        client.send(&calls.collect::<Vec<_>>().concat());
        client.half_close();
    }
    for client in &mut clients {
        let serials: HashSet<u32> = (0..50).map(|_| client.packet()).map(|p| (p.value(), p.header.serial).1).collect();
        assert_eq!(serials.len(), 50);
        client.end();
    }
}

#[test]
fn replies_that_do_not_fit_into_the_socket_are_not_lost_by_the_half_close() {
    let service = TestService::start();
    let mut client = service.client();
    for serial in 0..6 {
        client.send(&call(TEST, proc::GROW, serial, &map([("bytes", 1_000_000.into())])));
    }
    client.half_close();
    let serials: HashSet<u32> = (0..6).map(|_| client.packet()).map(|p| (p.value(), p.header.serial).1).collect();
    assert_eq!(serials.len(), 6);
    client.end();
}

#[test]
fn what_waits_in_the_backlog_is_answered_after_the_half_close() {
    let service = TestService::with(|config| {
        config.limits.max_client_requests = 1;
        config.limits.max_client_backlog = 2;
    });
    let mut client = service.client();
    // One runs, two wait in the backlog, the rest and the end of input lie in the socket.
    client.send(&call(TEST, proc::GATE, 0, &map([("door", 1.into())])));
    for serial in 1..20 {
        client.send(&call(ECHO, echo::QUICK, serial, &parcel(serial.into(), b"")));
    }
    client.half_close();
    service.gate().wait_for(1);
    service.gate().open_all();
    for serial in 0..20 {
        client.reply(serial);
    }
    client.end();
}
