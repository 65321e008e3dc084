//! Domain events of libvirt's test driver, which sends them by a timer of the loop.

use std::sync::mpsc::TryRecvError;

use virt::connect::Connect;
use virt_sys::{VIR_DOMAIN_EVENT_STARTED as STARTED, VIR_DOMAIN_EVENT_STOPPED as STOPPED};

use crate::support::{Lifecycle, PATIENCE, domain, the_loop};

fn connect() -> Connect {
    the_loop();
    Connect::open(Some("test:///default")).unwrap()
}

#[test]
fn domains_that_start_and_are_destroyed_are_told_on_the_loops_thread() {
    let connection = connect();
    let domain = domain(&connection, "lively");
    let events = Lifecycle::of(&connection, &domain, |_| {});
    let thread = the_loop().thread();
    for _ in 0..2 {
        domain.create().unwrap();
        assert_eq!(events.next(), ("lively".to_owned(), STARTED, thread));
        domain.destroy().unwrap();
        assert_eq!(events.next(), ("lively".to_owned(), STOPPED, thread));
    }
    Lifecycle::deregister(&connection, events.id);
}

#[test]
fn a_registration_that_ends_frees_its_opaque_once_and_hears_nothing_more() {
    let connection = connect();
    let domain = domain(&connection, "finished");
    let events = Lifecycle::of(&connection, &domain, |_| {});
    domain.create().unwrap();
    assert_eq!(events.next().1, STARTED);
    // Else libvirt may be in the middle of telling, and would free it on the loop's thread.
    the_loop().turn();
    Lifecycle::deregister(&connection, events.id);
    events.freed.recv_timeout(PATIENCE).unwrap();
    domain.destroy().unwrap();
    the_loop().turn();
    assert_eq!(events.events.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(events.freed.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn a_registration_that_ends_in_its_own_callback_is_freed_on_the_loops_thread_after_it() {
    let connection = connect();
    let domain = domain(&connection, "brief");
    let on_the_loop = connection.clone();
    let events = Lifecycle::of(&connection, &domain, move |id| Lifecycle::deregister(&on_the_loop, id));
    domain.create().unwrap();
    assert_eq!(events.next().1, STARTED, "the callback could still use what was registered");
    assert_eq!(events.freed.recv_timeout(PATIENCE), Ok(the_loop().thread()));
    domain.destroy().unwrap();
    the_loop().turn();
    assert_eq!(events.events.try_recv(), Err(TryRecvError::Disconnected));
}
