//! Handlers that panic or stop: each costs its own call and nothing else.

use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;

use postroom_protocol::Status;
use rmpv::Value;

use crate::support::*;

/// One thread of each kind, so that it is known which instance gets a call.
fn single() -> TestService {
    TestService::with(|config| {
        config.limits.min_workers = 1;
        config.limits.async_workers = 1;
        config.limits.io_arbiters = 1;
    })
}

fn count(client: &mut Client, procedure: i32) -> (u64, u64) {
    let counted = client.call(TEST, procedure, &[]);
    (counted["instance"].as_u64().unwrap(), counted["calls"].as_u64().unwrap())
}

#[track_caller]
fn is_internal(error: &postroom::Error) {
    assert_eq!(error.code(), "internal");
    let incident = error.incident().expect("an incident");
    assert!(error.message().contains(incident), "{error}");
    assert!(!error.message().contains("as the test asked"), "the message of a panic is not for clients: {error}");
}

#[test]
fn a_panic_is_answered_and_a_fresh_handler_takes_over() {
    let service = single();
    let mut client = service.client();
    let none: &[u8] = &[];
    let yields = map([("yields", 3.into())]);
    let cases = [
        (proc::COUNT, proc::PANIC, none),
        (proc::COUNT_INLINE, proc::PANIC_INLINE, none),
        (proc::COUNT_ASYNC, proc::PANIC_ASYNC, none),
        (proc::COUNT_ASYNC, proc::PANIC_FUTURE, &yields),
    ];
    for (counter, panicker, payload) in cases {
        for _ in 0..3 {
            let (before, _) = count(&mut client, counter);
            assert_eq!(count(&mut client, counter).0, before);
            is_internal(&client.call_error(TEST, panicker, payload));
            let (after, calls) = count(&mut client, counter);
            assert_ne!(before, after);
            assert_eq!(calls, 1);
        }
    }
}

#[test]
fn the_incident_of_a_panic_is_in_the_log_and_its_text_is_not_in_the_reply() {
    let service = Binary::serve("");
    let mut client = service.client();
    client.send(&call(ECHO, echo::PANIC, 4711, &map([("n", 815.into())])));
    let error = client.error(4711);
    is_internal(&error);
    let incident = error.incident().unwrap().to_owned();
    assert!(!error.message().contains("815"), "{error}");
    eventually("the log has the incident", || service.log().contains(&incident));
    let log = service.log();
    let line = log.lines().find(|line| line.contains(&incident)).unwrap();
    for part in ["echo.panic", "815", "client=1", "serial=4711"] {
        assert!(line.contains(part), "no {part} in: {line}");
    }
}

#[test]
fn incidents_differ() {
    let service = single();
    let mut client = service.client();
    let first = client.call_error(TEST, proc::PANIC, &[]);
    let second = client.call_error(TEST, proc::PANIC, &[]);
    assert_ne!(first.incident(), second.incident());
}

#[test]
fn other_calls_of_the_same_batch_survive_a_panic() {
    for workers in [1, 2] {
        let service = TestService::with(|config| config.limits.min_workers = workers);
        let mut client = service.client();
        // Estimates are low, so calls travel together.
        for _ in 0..200 {
            client.call(TEST, proc::COUNT, &[]);
        }
        let procedures = [
            (proc::COUNT, proc::PANIC),
            (proc::COUNT_INLINE, proc::PANIC_INLINE),
            (proc::COUNT_ASYNC, proc::PANIC_ASYNC),
            (proc::COUNT, proc::BAD_ENCODE),
            (proc::COUNT_INLINE, proc::BAD_ENCODE_INLINE),
            (proc::COUNT_INLINE, proc::UNENCODABLE_INLINE),
            (proc::COUNT, proc::BAD_FACTORY),
            (proc::COUNT, proc::BAD_START),
            (proc::COUNT, proc::STOP),
            (proc::COUNT_INLINE, proc::STOP_INLINE),
            (proc::COUNT_ASYNC, proc::STOP_ASYNC),
        ];
        for (good, bad) in procedures {
            service.bad_factory.store(1000, SeqCst);
            service.bad_start.store(1000, SeqCst);
            let is_bad = |serial: u32| serial % 7 == 3;
            let calls = (0..200).map(|serial| call(TEST, if is_bad(serial) { bad } else { good }, serial, &[]));
            client.send(&calls.collect::<Vec<_>>().concat());
            let mut replies = HashMap::new();
            for _ in 0..200 {
                let reply = client.packet();
                assert_eq!(replies.insert(reply.header.serial, reply.clone()), None, "two replies: {reply:?}");
            }
            for (serial, reply) in replies {
                match reply.header.status {
                    Status::Ok => assert!(!is_bad(serial) || (proc::STOP..=proc::STOP_ASYNC).contains(&bad)),
                    _ => {
                        assert!(is_bad(serial), "call {serial} failed with the others: {:?}", reply.error());
                        is_internal(&reply.error());
                    }
                }
            }
            client.silence(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn a_factory_that_panics_fails_its_calls_until_it_does_not() {
    let service = single();
    let mut client = service.client();
    service.bad_factory.store(3, SeqCst);
    for _ in 0..3 {
        is_internal(&client.call_error(TEST, proc::BAD_FACTORY, &[]));
        // Its neighbours at the same desk are unharmed.
        client.call(TEST, proc::COUNT, &[]);
    }
    client.call(TEST, proc::BAD_FACTORY, &[]);
}

#[test]
fn a_handler_that_panics_in_started_fails_its_calls_until_it_does_not() {
    let service = single();
    let mut client = service.client();
    service.bad_start.store(3, SeqCst);
    for _ in 0..3 {
        is_internal(&client.call_error(TEST, proc::BAD_START, &[]));
        client.call(TEST, proc::COUNT, &[]);
    }
    client.call(TEST, proc::BAD_START, &[]);
}

#[test]
fn a_handler_that_stops_its_context_is_answered_and_replaced() {
    let service = single();
    let mut client = service.client();
    let kinds =
        [(proc::COUNT, proc::STOP), (proc::COUNT_INLINE, proc::STOP_INLINE), (proc::COUNT_ASYNC, proc::STOP_ASYNC)];
    for (counter, stopper) in kinds {
        for _ in 0..3 {
            let (before, _) = count(&mut client, counter);
            assert_eq!(client.call(TEST, stopper, &[]), Value::Map(vec![]));
            let (after, calls) = count(&mut client, counter);
            assert_ne!(before, after);
            assert_eq!(calls, 1);
        }
    }
}

#[test]
fn a_panic_outside_of_calls_costs_no_call() {
    let service = single();
    let mut client = service.client();
    for _ in 0..20 {
        client.call(TEST, proc::LATE_PANIC, &[]);
        for _ in 0..3 {
            client.call(TEST, proc::COUNT, &[]);
        }
    }
}

#[test]
fn a_panic_with_any_value_is_an_internal_error_that_hides_it() {
    let service = single();
    let mut client = service.client();
    let error = client.call_error(TEST, proc::ABSENT_MINDED, &map([("value", 7.into())]));
    is_internal(&error);
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}

#[test]
fn futures_of_other_calls_survive_the_panic_of_one() {
    let service = single();
    let mut client = service.client();
    client.send(&call(TEST, proc::GATE_ASYNC, 1, &map([("door", 1.into())])));
    service.gate().wait_for(1);
    is_internal(&client.call_error(TEST, proc::PANIC_FUTURE, &map([("yields", 0.into())])));
    is_internal(&client.call_error(TEST, proc::PANIC_ASYNC, &[]));
    service.gate().open_all();
    client.reply(1);
}

#[test]
fn places_for_async_calls_come_back_after_panics() {
    let service = TestService::with(|config| {
        config.limits.async_workers = 1;
        config.limits.max_async_calls = 2;
    });
    let mut client = service.client();
    for _ in 0..20 {
        is_internal(&client.call_error(TEST, proc::PANIC_FUTURE, &map([("yields", 1.into())])));
        is_internal(&client.call_error(TEST, proc::PANIC_ASYNC, &[]));
        let invalid = client.call_error(TEST, proc::PANIC_FUTURE, &encode("invalid"));
        assert_eq!(invalid.code(), "invalid_arguments");
    }
    client.send(&call(TEST, proc::GATE_ASYNC, 1, &map([("door", 1.into())])));
    client.send(&call(TEST, proc::GATE_ASYNC, 2, &map([("door", 2.into())])));
    service.gate().wait_for(2);
    service.gate().open_all();
    (0..2).for_each(|_| drop(client.packet().value()));
}

#[test]
fn a_half_closed_client_gets_the_error_of_a_panic() {
    let service = single();
    for procedure in [proc::PANIC, proc::PANIC_INLINE, proc::PANIC_ASYNC] {
        let mut client = service.client();
        client.send(&call(TEST, procedure, 9, &[]));
        client.half_close();
        is_internal(&client.error(9));
        client.end();
    }
}
