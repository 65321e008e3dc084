//! Pings both ways between `virsh` and the daemon.

use rustix::process::Signal;

use super::relay::Relay;
use super::virsh::*;
use crate::support::*;

/// A `virsh` that waits for commands, and sends no pings of its own: they would count as a sign of life.
fn silent(daemon: &Daemon, relay: &Relay) -> Ongoing {
    let uri = uri("test+unix:///default", &relay.socket());
    Ongoing::spawn(daemon.command_to(&uri, &["--keepalive-interval", "0"]))
}

#[test]
fn pings_of_the_service_are_answered_by_virsh_and_it_is_kept() {
    let Some(daemon) = Daemon::start_with("keepalive_interval = \"100ms\"\nkeepalive_count = 100\n") else { return };
    let relay = Relay::start(daemon.service.path());
    let mut virsh = silent(&daemon, &relay);
    eventually("virsh has answered 30 pings", || relay.client.pongs() >= 30);
    assert!(relay.service.pings() >= 30);
    virsh.ask("domstate test", "running");
    assert_eq!(relay.client.pings(), 0);
}

#[test]
fn a_virsh_that_does_not_answer_is_closed() {
    let Some(daemon) = Daemon::start_with("keepalive_interval = \"300ms\"\nkeepalive_count = 8\n") else { return };
    let relay = Relay::start(daemon.service.path());
    let virsh = silent(&daemon, &relay);
    eventually("virsh has answered a ping", || relay.client.pongs() >= 1);
    virsh.signal(Signal::STOP);
    eventually("the service closes it", || daemon.service.log().contains("nor an answer to 8 pings"));
}

#[test]
fn pings_of_virsh_are_answered_while_its_call_runs() {
    let Some(daemon) = Daemon::start() else { return };
    let relay = Relay::start(daemon.service.path());
    let uri = uri("test+unix:///default", &relay.socket());
    // It would give up after four seconds without an answer.
    daemon.define_web(6_000);
    let arguments = ["--keepalive-interval", "1", "--keepalive-count", "3", "start", "web"];
    let done = finish(&mut daemon.command_to(&uri, &arguments));
    assert_eq!(done, Done { status: Some(0), output: "Domain 'web' started".to_owned(), errors: String::new() });
    assert!(relay.client.pings() >= 3, "{:?}", relay.client);
    assert!(relay.service.pongs() >= 3, "{:?}", relay.service);
}
