//! One `virsh` sees what another does.

use super::virsh::*;
use crate::support::*;

const REGISTER: &str = "connect_domain_event_callback_register_any";
const DEREGISTER: &str = "connect_domain_event_callback_deregister_any";

/// A `virsh` that prints events, once it has registered for so many kinds of them.
fn watching(daemon: &Daemon, arguments: &[&str], kinds: u64) -> Ongoing {
    let before = daemon.answered(REGISTER);
    let watching = Ongoing::spawn(daemon.command(arguments));
    eventually("virsh has registered for events", || daemon.answered(REGISTER) == before + kinds);
    watching
}

#[test]
fn one_virsh_sees_what_happens_to_the_domains_of_another() {
    let Some(daemon) = Daemon::start() else { return };
    let events = watching(&daemon, &["event", "--all", "--loop"], 27);
    let file = daemon.file("web.xml", &web(0));
    let happened = |commands: &[&str], expected: &[&str]| {
        daemon.session(commands);
        for expected in expected {
            assert_eq!(events.line(), format!("event 'lifecycle' for domain 'web': {expected}"));
        }
    };
    let define = format!("define {file}");
    happened(&[&define, &define], &["Defined Added", "Defined Updated"]);
    happened(&["start web"], &["Started Booted"]);
    happened(&["suspend web", "resume web"], &["Suspended Paused", "Resumed Unpaused"]);
    happened(&["reboot web", "shutdown web"], &["Stopped Shutdown"]);
    happened(&["start web", "destroy web"], &["Started Booted", "Stopped Destroyed"]);
    happened(&["start web", "undefine web"], &["Started Booted", "Undefined Removed"]);
    happened(&["destroy web"], &["Stopped Destroyed"]);
    let create = format!("create {file}");
    happened(&[&create, "destroy web"], &["Started Booted", "Stopped Destroyed"]);
    assert_eq!(events.unread(), [""; 0]);
}

#[test]
fn a_virsh_that_asked_for_one_domain_sees_nothing_of_others() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.define_web(0);
    let mut events = watching(&daemon, &["event", "--domain", "web", "--event", "lifecycle"], 1);
    daemon.session(&["destroy test", "start test", "start web"]);
    // Without --loop it ends with the first.
    assert_eq!(events.line(), "event 'lifecycle' for domain 'web': Started Booted");
    assert_eq!(events.line(), "events received: 1");
    assert_eq!(events.wait(), Some(0));
    assert_eq!(daemon.answered(DEREGISTER), 1);
}

#[test]
fn several_see_each_event_once_and_those_that_have_left_do_no_harm() {
    let Some(daemon) = Daemon::start() else { return };
    let watchers: Vec<Ongoing> =
        (0..3).map(|_| watching(&daemon, &["event", "--loop", "--event", "lifecycle"], 1)).collect();
    drop(watching(&daemon, &["event", "--all", "--loop"], 27));
    daemon.session(&["suspend test", "resume test"]);
    for watcher in &watchers {
        assert_eq!(watcher.line(), "event 'lifecycle' for domain 'test': Suspended Paused");
        assert_eq!(watcher.line(), "event 'lifecycle' for domain 'test': Resumed Unpaused");
        assert_eq!(watcher.unread(), [""; 0]);
    }
}
