//! Many at once, and calls that take their time.

use std::time::Duration;

use postroom_protocol::libvirt::RemoteError;
use postroom_protocol::xdr::{self, Fixed};

use super::virsh::*;
use crate::support::*;

const CLIENTS: usize = 20;

#[test]
fn twenty_virsh_work_side_by_side() {
    let Some(daemon) = Daemon::start() else { return };
    let daemon = &daemon;
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            scope.spawn(move || {
                let name = format!("guest{number}");
                let xml = web(0).replace("web", &name).replace(WEB_UUID, &format!("{number:032x}"));
                let file = daemon.file(&format!("{name}.xml"), &xml);
                let commands = [
                    format!("define {file}"),
                    format!("start {name}"),
                    format!("domstate {name}"),
                    format!("destroy {name}"),
                    format!("undefine {name}"),
                    format!("domstate --reason {name}"),
                ];
                let printed = daemon.command(&[&commands.join("; ")]).output().unwrap();
                let lines = String::from_utf8(printed.stdout).unwrap();
                let lines: Vec<&str> = lines.lines().filter(|line| !line.is_empty()).collect();
                let expected = [
                    format!("Domain '{name}' defined from {file}"),
                    format!("Domain '{name}' started"),
                    "running".to_owned(),
                    format!("Domain '{name}' destroyed"),
                    format!("Domain '{name}' has been undefined"),
                ];
                assert_eq!(lines, expected);
                let errors = String::from_utf8(printed.stderr).unwrap();
                assert_eq!(errors.trim_end(), format!("error: failed to get domain '{name}'"));
            });
        }
    });
    assert_eq!(daemon.ok(&["list", "--all", "--name"]), "test");
}

#[test]
fn of_many_that_start_one_domain_one_succeeds() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.define_web(50);
    let daemon = &daemon;
    let started: Vec<Done> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..8).map(|_| scope.spawn(move || daemon.virsh(&["start", "web"]))).collect();
        starting.into_iter().map(|starting| starting.join().unwrap()).collect()
    });
    assert_eq!(started.iter().filter(|done| done.status == Some(0)).count(), 1, "{started:#?}");
    // virsh itself refuses what it sees running already.
    let refused = [
        "error: Domain is already active",
        "error: Failed to start domain 'web'\nerror: internal error: Domain 'web' is already running",
    ];
    for done in started.iter().filter(|done| done.status != Some(0)) {
        assert!(refused.contains(&done.errors.as_str()), "{done:?}");
    }
}

#[test]
fn a_domain_that_takes_its_time_to_start_holds_up_nobody_and_can_be_destroyed() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.define_web(3_600_000);
    let mut starting = Ongoing::spawn(daemon.command(&["start", "web"]));
    eventually("the start is on its way", || daemon.in_progress("domain_create") == 1);
    // Look-ups and other domains.
    assert_eq!(daemon.ok(&["domstate", "web"]), "shut off");
    assert_eq!(daemon.ok(&["suspend", "test"]), "Domain 'test' suspended");
    assert_eq!(daemon.ok(&["destroy", "web"]), "Domain 'web' destroyed");
    assert_eq!(starting.wait(), Some(0));
    assert_eq!(daemon.ok(&["domstate", "--reason", "web"]), "shut off (destroyed)");
}

#[test]
fn no_more_than_64_operations_wait_for_one_domain_and_none_begins_whose_client_has_left() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.define_web(3_600_000);
    let _starting = Ongoing::spawn(daemon.command(&["start", "web"]));
    eventually("the start is on its way", || daemon.in_progress("domain_create") == 1);
    let uuid = u128::from_str_radix(&WEB_UUID.replace('-', ""), 16).unwrap();
    let mut shutdown = Vec::new();
    xdr::encode(&("web", Fixed(uuid.to_be_bytes()), -1), &mut shutdown).unwrap();
    // Each asks, and leaves before there is an answer; one that leaves before a worker has it does not count.
    let answer = (0..2000).find_map(|_| {
        let mut client = daemon.service.client();
        client.set_patience(Duration::from_millis(20));
        client.send(&call(0x2000_8086, 33, 1, &shutdown));
        client.try_packet().ok().flatten()
    });
    let error = RemoteError::decode(&answer.expect("one is refused").payload).unwrap();
    let text = "Timed out during operation: cannot acquire state change lock: 64 operations wait for it";
    assert_eq!((error.code.0, error.message.as_deref()), (68, Some(text)));
    eventually("no worker waits for those that have left", || daemon.busy_workers() == 1);
    // This one would fail if anybody had shut it down.
    assert_eq!(daemon.ok(&["destroy", "web"]), "Domain 'web' destroyed");
}

#[test]
fn a_client_that_leaves_while_it_waits_leaves_no_worker_behind() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.define_web(3_600_000);
    let starting = Ongoing::spawn(daemon.command(&["start", "web"]));
    eventually("the start is on its way", || daemon.in_progress("domain_create") == 1);
    eventually("a worker waits for it", || daemon.busy_workers() == 1);
    drop(starting);
    eventually("the worker is free again", || daemon.busy_workers() == 0);
    // The domain goes on, and is not confused by it.
    assert_eq!(daemon.ok(&["destroy", "web"]), "Domain 'web' destroyed");
}
