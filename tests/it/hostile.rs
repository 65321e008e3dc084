//! Peers that mean no good: garbage, claims, and clients that vanish. The service is a process of its own.

use std::time::Duration;

use postroom_protocol::{Header, PacketType, Status};

use crate::support::*;

/// Something that is no conversation: garbage, or a packet or two with a fault in them.
fn garbage(random: &mut Random) -> Vec<u8> {
    let length = random.below(600) as usize;
    let noise = random.bytes(length);
    let header = Header {
        program: [ECHO, DIRECTORY, 0x6b65_6570, random.next() as u32][random.below(4) as usize],
        version: random.below(3) as u32,
        procedure: random.below(13) as i32 - 1,
        packet_type: PacketType::from_wire([0, 0, 16, 4, 5, 2, 17, random.next() as i32][random.below(8) as usize]),
        serial: random.next() as u32,
        status: Status::from_wire(if random.below(8) == 0 { 1 } else { 0 }),
    };
    // `block`, `nap` and `sleep` would do as they are told, for as long as noise says.
    let header = match header.procedure {
        3 | 4 | 9 => Header { procedure: 1, ..header },
        _ => header,
    };
    match random.below(5) {
        0 => noise,
        1 => packet(header, &noise),
        2 => {
            let mut bytes = packet(header, &noise);
            bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
            bytes
        }
        3 => [&header.encode(random.next() as u32)[..], &noise].concat(),
        _ => {
            let mut bytes = [packet(header, &encode(&noise)), call(ECHO, echo::MIRROR, 1, &noise)].concat();
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
            bytes
        }
    }
}

#[test]
fn five_thousand_garbage_connections_leave_no_trace() {
    // A worker more, because the machine is slow, would be a trace.
    let service = Binary::serve("min_workers = 2\nmax_workers = 2\n");
    let storm = |seeds: std::ops::Range<u64>| {
        let mut open = std::collections::VecDeque::new();
        for seed in seeds {
            let mut random = Random(seed * 0x9e37_79b9 + 1);
            let mut client = service.client();
            let bytes = garbage(&mut random);
            // It may be closed on us at any time.
            let _ = client.try_send(&bytes);
            match random.below(3) {
                0 => client.half_close(),
                1 => client.set_patience(Duration::from_millis(1)),
                _ => {}
            }
            if random.below(3) == 0 {
                client.set_patience(Duration::from_millis(2));
                let _ = client.try_packet();
            }
            open.push_back(client);
            if open.len() > 50 {
                open.pop_front();
            }
        }
    };
    // What is made once and kept is there after the first hundreds.
    storm(0..500);
    service.client().is_usable();
    let usage = service.usage();
    let at_rest = || {
        // One more client than at rest, and it is the only one.
        let mut client = service.client();
        client.is_usable();
        usage.descriptors()
    };
    let mut descriptors = at_rest();
    eventually("the first clients are gone", || {
        let before = std::mem::replace(&mut descriptors, at_rest());
        std::thread::sleep(Duration::from_millis(50));
        before == descriptors
    });
    let resident = usage.resident_kib();
    storm(500..5500);
    eventually("all descriptors are closed", || at_rest() <= descriptors);
    let grown = usage.resident_kib().saturating_sub(resident);
    println!("5000 garbage connections: {grown} KiB");
    assert!(grown < 8 * 1024, "{grown} KiB");
    let log = service.log();
    // `echo.panic` is a procedure like any other, and garbage may well call it.
    let of_its_own = |line: &&str| line.contains("panicked") && !line.contains("as asked") && !line.contains("echo.rs");
    assert_eq!(log.lines().find(of_its_own), None);
    service.client().is_usable();
}

#[test]
fn clients_that_claim_big_packets_cost_what_they_send() {
    let service = Binary::serve("");
    let mut other = service.client();
    other.is_usable();
    let before = service.usage().resident_kib();
    let mut clients: Vec<Client> = (0..200).map(|_| service.client()).collect();
    for client in &mut clients {
        client.send(&header(ECHO, 1, echo::ECHO, 1).encode(32 << 20));
        client.send(&[0; 72]);
    }
    // Whoever connects and is answered later, on each arbiter, was read later.
    (0..8).for_each(|_| service.client().is_usable());
    let grown = service.usage().resident_kib().saturating_sub(before);
    println!("200 clients that claim 32 MiB: {grown} KiB");
    assert!(grown < 8 * 1024, "{grown} KiB");
    other.is_usable();
}

#[test]
fn arguments_that_claim_more_than_they_hold_cost_nothing() {
    let service = Binary::serve("");
    let mut client = service.client();
    client.is_usable();
    let before = service.usage().resident_kib();
    for claim in [&[0xdd, 0xff, 0xff, 0xff, 0xff][..], &[0xdf, 0xff, 0xff, 0xff, 0xff], &[0xc6, 0xff, 0xff, 0xff, 0xff]]
    {
        for procedure in [echo::MIRROR, echo::ECHO, echo::QUICK, echo::HASH] {
            let error = client.call_error(ECHO, procedure, claim);
            assert_eq!(error.code(), "invalid_arguments");
        }
    }
    let grown = service.usage().resident_kib().saturating_sub(before);
    assert!(grown < 2 * 1024, "{grown} KiB");
}

#[test]
fn clients_that_vanish_in_the_middle_of_calls_leave_no_trace() {
    let service = Binary::serve("min_workers = 2\nmax_workers = 2\n");
    service.client().is_usable();
    let at_rest = || {
        let mut client = service.client();
        client.is_usable();
        service.usage().descriptors()
    };
    let before = at_rest();
    for round in 0..300_u32 {
        let mut client = service.client();
        for serial in 0..5 {
            let procedure = [echo::ECHO, echo::QUICK, echo::MIRROR][(serial + round) as usize % 3];
            // The replies do not fit into the socket.
            client.send(&call(ECHO, procedure, serial, &parcel(0, &[0; 60_000])));
        }
        client.send(&call(ECHO, echo::BLOCK, 5, &map([("ms", 1.into())])));
        client.send(&call(ECHO, echo::SLEEP, 6, &map([("ms", 5.into())])));
    }
    eventually("all descriptors are closed", || at_rest() <= before);
    assert!(!service.log().contains("panicked"), "{}", service.log());
    // All workers, and all places for async calls, are free again.
    let mut client = service.client();
    for procedure in [echo::ECHO, echo::QUICK, echo::MIRROR] {
        client.call(ECHO, procedure, &parcel(1, b"x"));
    }
}

#[test]
fn a_service_that_is_flooded_with_connections_still_serves_those_it_has() {
    let service = Binary::serve("");
    let mut client = service.client();
    client.is_usable();
    let address = service.address().clone();
    let flood = std::thread::spawn(move || {
        for _ in 0..3000 {
            let _ = Client::try_connect(&address);
        }
    });
    while !flood.is_finished() {
        client.is_usable();
    }
    flood.join().unwrap();
}
