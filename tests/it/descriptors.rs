//! When the process has no descriptors left: newcomers are told, others are unharmed, and it ends by itself.

use std::time::{Duration, Instant};

use postroom_protocol::{Header, PacketType};

use crate::support::*;

/// A service that may have 72 descriptors, and the clients that have taken all of them.
fn exhausted() -> (Binary, Vec<Client>) {
    let service = Binary::serve_with_descriptors(72, "io_arbiters = 2\nmin_workers = 2\nprio_workers = 0\n");
    let mut clients = Vec::new();
    loop {
        let mut client = service.client();
        let sent = client.try_send(&call(ECHO, echo::QUICK, 1, &parcel(1, b"")));
        match client.try_packet() {
            Ok(Some(packet)) if sent.is_ok() && packet.header.serial == 1 => clients.push(client),
            Ok(Some(packet)) => {
                let error = packet.error();
                assert_eq!(error.code(), "overloaded");
                assert_eq!(error.limit(), Some(("nofile", 72)));
                client.end();
                break;
            }
            other => panic!("neither served nor told: {other:?}"),
        }
        assert!(clients.len() < 72, "it serves more clients than it has descriptors");
    }
    assert!(clients.len() > 20, "only {} clients", clients.len());
    (service, clients)
}

#[test]
fn a_service_that_gets_too_few_descriptors_to_start_says_so_and_one_that_starts_serves_or_tells() {
    let config = "io_arbiters = 2\nmin_workers = 2\nprio_workers = 0\nasync_workers = 1\n";
    let mut started = 0;
    for descriptors in 20..60 {
        let Some(service) = Binary::try_serve_with_descriptors(descriptors, config) else {
            assert_eq!(started, 0, "it starts with fewer than {descriptors}");
            continue;
        };
        started += 1;
        let mut client = service.client();
        // It may have been told already, and its socket closed.
        let _ = client.try_send(&call(ECHO, echo::QUICK, 1, &parcel(1, b"")));
        let packet = client.packet();
        assert!(packet.header.serial == 1 || packet.error().code() == "overloaded", "{packet:?}");
    }
    assert!(started > 5, "{started}");
}

#[test]
fn newcomers_are_told_and_others_are_unharmed() {
    let (service, mut clients) = exhausted();
    let mut quickest = Duration::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        let error = service.client().announcement();
        quickest = quickest.min(start.elapsed());
        assert_eq!((error.code().as_str(), error.limit()), ("overloaded", Some(("nofile", 72))));
        assert!(error.retryable());
        clients.iter_mut().for_each(Client::is_usable);
    }
    // The machine may hold up some, a service that lets them wait would hold up all.
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");
}

#[test]
fn many_newcomers_at_once_are_all_told() {
    let (service, mut clients) = exhausted();
    let mut newcomers: Vec<Client> = (0..200).map(|_| service.client()).collect();
    for client in &mut newcomers {
        assert_eq!(client.announcement().code(), "overloaded");
    }
    clients.iter_mut().for_each(Client::is_usable);
}

#[test]
fn when_a_client_leaves_a_newcomer_is_served() {
    let (service, mut clients) = exhausted();
    for _ in 0..5 {
        drop(clients.pop());
        // A newcomer that was told is a client that leaves, too: the one that left first gets its time.
        clients.push(let_in(|| service.client()));
    }
    clients.iter_mut().for_each(Client::is_usable);
}

#[test]
fn an_exhausted_service_does_not_spin() {
    let (service, mut clients) = exhausted();
    let (start, log_before) = (Instant::now(), service.log().lines().count());
    eventually_rests(service.usage(), Duration::from_secs(1), Duration::from_millis(300));
    let (lines, seconds) = (service.log().lines().count() - log_before, start.elapsed().as_secs() as usize + 1);
    assert!(lines <= 20 * seconds, "{lines} lines of log in {seconds} seconds");
    clients.iter_mut().for_each(Client::is_usable);
}

#[test]
fn a_call_that_brings_a_descriptor_which_cannot_be_taken_is_answered_and_its_client_stays() {
    let (service, mut clients) = exhausted();
    let client = &mut clients[0];
    let header = Header { packet_type: PacketType::CallWithFds, ..header(ECHO, 1, echo::MIRROR, 7) };
    client.send(&packet(header, &1_u32.to_be_bytes()));
    pipe_with(|fd| client.send_with_fds(&[0], &[fd]));
    assert_eq!(client.error(7).code(), "unsupported");
    clients.iter_mut().for_each(Client::is_usable);
    drop(service);
}
