//! The public module `testing`: a pair in memory, gates, and faults on the line.

use std::time::Duration;

use postroom::client::{CallError, Connector};
use postroom::testing::{Faults, faulty, pair};
use postroom::{Config, Service};
use rmpv::Value;

use crate::support::eventually;

fn with_faults(faults: Faults) -> (postroom::Running, Connector) {
    let running = Service::new(Config::default()).start().unwrap();
    let connector = Connector::new().with_local("bad", faulty(running.local(), faults));
    (running, connector)
}

#[test]
fn a_pair_calls_the_programs_of_its_service_without_a_socket() {
    let pair = pair(Service::new(Config::default()));
    assert!(pair.service.addresses().is_empty());
    let value: Value = pair.client.call("echo.mirror", &[1, 2, 3]).unwrap();
    assert_eq!(value, Value::from(vec![Value::from(1), Value::from(2), Value::from(3)]));
}

#[test]
fn a_line_that_delivers_byte_by_byte_changes_nothing() {
    let (_running, connector) = with_faults(Faults { split: 1, ..Faults::default() });
    let client = connector.builder().connect_blocking("local:bad").unwrap();
    for text in ["", "a", "a longer text that comes in many portions"] {
        assert_eq!(client.call::<String>("echo.mirror", text).unwrap(), text);
    }
}

#[test]
fn a_delayed_line_delays_replies() {
    let (_running, connector) = with_faults(Faults { delay: Duration::from_millis(100), ..Faults::default() });
    let client = connector.builder().connect_blocking("local:bad").unwrap();
    // Where the machine stands still for long, both are over when it goes on.
    eventually("a reply comes after its deadline", || {
        let late = client.request("echo.mirror").args("x").deadline(Duration::from_millis(20)).send::<String>();
        late.is_err_and(|error| error.is_deadline())
    });
    assert_eq!(client.call::<String>("echo.mirror", "x").unwrap(), "x");
}

#[test]
fn a_line_that_is_cut_fails_the_calls_under_way_and_nothing_hangs() {
    for (cut_after_sent, cut_after_received) in [(Some(300), None), (None, Some(1000))] {
        let (running, connector) = with_faults(Faults { cut_after_sent, cut_after_received, ..Faults::default() });
        let client = connector.builder().connect_blocking("local:bad").unwrap();
        let error = (0..1000).find_map(|_| client.call::<String>("echo.mirror", "x").err());
        assert!(matches!(error, Some(CallError::Closed(_))), "{error:?}");
        // The service has seen it too: it stops at once, with nobody to wait for.
        assert!(running.stop().is_clean());
    }
}

#[test]
fn a_service_that_has_stopped_refuses_local_clients() {
    let running = Service::new(Config::default()).start().unwrap();
    let connector = running.connector("gone");
    assert!(running.stop().is_clean());
    let error = connector.builder().connect_blocking("local:gone").unwrap_err();
    assert!(error.to_string().contains("local:gone"), "{error}");
    let unknown = connector.builder().connect_blocking("local:other").unwrap_err();
    assert!(unknown.to_string().contains("gone"), "it names those it has: {unknown}");
}
