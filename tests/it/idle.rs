//! What an idle client costs. The service is a process of its own; its clients are in this one.

use std::time::Duration;

use crate::support::*;

/// Ten thousand, where this process may have as many descriptors beside those of other tests.
fn clients() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(10_000, |limit| limit.saturating_sub(6000).clamp(1000, 10_000) as usize)
}

#[test]
fn ten_thousand_idle_clients_cost_less_than_four_kibibytes_each() {
    let count = clients();
    // All are connected before the last says its first word.
    let service = Binary::serve("max_clients = 20000\nfirst_packet_timeout = \"1h\"\n");
    // What is made once and kept is there after the first hundred.
    let connect = |count: usize| -> Vec<Client> {
        let mut clients: Vec<Client> = (0..count).map(|_| service.client()).collect();
        for client in &mut clients {
            for procedure in [echo::ECHO, echo::QUICK, echo::MIRROR] {
                client.call(ECHO, procedure, &parcel(1, &[0; 500]));
            }
        }
        clients
    };
    let mut first = connect(100);
    let before = service.usage().resident_kib();
    let mut clients = connect(count);
    let grown = service.usage().resident_kib().saturating_sub(before);
    let each = grown * 1024 / count as u64;
    println!("{count} idle clients: {grown} KiB, {each} bytes each");
    assert!(each < 4096, "{each} bytes for an idle client");
    first.iter_mut().chain(&mut clients).for_each(Client::is_usable);
}

#[test]
fn idle_clients_cost_no_processor_time() {
    let service = Binary::serve("");
    let mut clients: Vec<Client> = (0..200).map(|_| service.client()).collect();
    clients.iter_mut().for_each(Client::is_usable);
    eventually_rests(service.usage(), Duration::from_millis(500), Duration::from_millis(50));
    clients.iter_mut().for_each(Client::is_usable);
}
