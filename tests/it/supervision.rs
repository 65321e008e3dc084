//! What fails beside a call (a thread, a start, a drop) costs no other call, is left alone for a while when it keeps
//! failing, and is told by the health of the service.

use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use postroom::Health;
use postroom_protocol::Status;

use crate::support::*;

fn single() -> TestService {
    TestService::with(|config| {
        config.limits.min_workers = 1;
        config.limits.io_arbiters = 1;
    })
}

fn door(door: u64) -> Vec<u8> {
    map([("door", door.into())])
}

#[test]
fn a_thread_that_a_handler_ends_is_replaced_and_the_call_answered() {
    let service = single();
    let mut client = service.client();
    for _ in 0..20 {
        client.call(TEST, proc::END_THREAD, &[]);
        client.call(TEST, proc::COUNT, &[]);
    }
    assert!(service.running().health().is_healthy());
    assert!(service.stop().is_clean());
}

#[test]
fn calls_behind_one_that_ends_the_thread_are_all_answered_once() {
    for workers in [1, 3] {
        let service = TestService::with(|config| config.limits.min_workers = workers);
        let mut client = service.client();
        for _ in 0..200 {
            client.call(TEST, proc::COUNT, &[]);
        }
        for _ in 0..10 {
            // Calls for two handler actors, so that one is on its way to another when the thread ends.
            let calls = (0..200).map(|serial| match serial % 20 {
                7 => call(TEST, proc::END_THREAD, serial, &[]),
                even if even % 2 == 0 => call(TEST, proc::COUNT, serial, &[]),
                _ => packet(header(TEST, 2, proc::COUNT, serial), &[]),
            });
            client.send(&calls.collect::<Vec<_>>().concat());
            let mut replies = HashMap::new();
            for _ in 0..200 {
                let reply = client.packet();
                assert_eq!(reply.header.status, Status::Ok, "{:?}", reply.error());
                assert_eq!(replies.insert(reply.header.serial, ()), None);
            }
        }
        client.silence(Duration::from_millis(20));
    }
}

#[test]
fn async_calls_that_run_on_a_thread_that_ends_are_answered_with_an_incident() {
    let service = TestService::with(|config| config.limits.max_async_calls = 4);
    let mut client = service.client();
    for round in 0..5_u32 {
        let doors = (0..3).map(|serial| call(TEST, proc::GATE_ASYNC, serial, &door(99)));
        client.send(&doors.collect::<Vec<_>>().concat());
        service.gate().wait_for(round as usize * 3 + 3);
        client.send(&call(TEST, proc::END_THREAD_ASYNC, 3, &[]));
        // These wait for a place, or in the inbox of the worker that ends.
        client.send(&(4..10).flat_map(|serial| call(TEST, proc::COUNT_ASYNC, serial, &[])).collect::<Vec<u8>>());
        let replies: HashMap<u32, Packet> = (0..10).map(|_| client.packet()).map(|p| (p.header.serial, p)).collect();
        assert_eq!(replies.len(), 10);
        for (serial, reply) in replies {
            if serial < 4 {
                assert_eq!(reply.error().code(), "internal");
                assert!(reply.error().incident().is_some());
            } else {
                reply.value();
            }
        }
    }
}

#[test]
fn panics_in_drops_cost_no_other_call() {
    let service = single();
    let mut client = service.client();
    for _ in 0..10 {
        client.call(TEST, proc::BAD_DROP, &[]);
        client.call(TEST, proc::COUNT, &[]);
        assert_eq!(client.call_error(TEST, proc::BAD_DROP_PANIC, &[]).code(), "internal");
        client.call(TEST, proc::COUNT, &[]);
        client.send(&call(TEST, proc::BAD_FUTURE_DROP, 5, &[]));
        assert_eq!(client.packet().header.serial, 5);
        client.call(TEST, proc::COUNT_ASYNC, &[]);
    }
    assert!(service.running().health().is_healthy());
}

#[test]
fn a_handler_that_cannot_start_is_left_alone_for_a_while_and_the_health_says_so_until_it_starts() {
    for procedure in [proc::BAD_FACTORY, proc::BAD_START] {
        let service = single();
        let mut client = service.client();
        let left = if procedure == proc::BAD_FACTORY { &service.bad_factory } else { &service.bad_start };
        left.store(6, SeqCst);
        let mut last = None;
        let mut started = Instant::now();
        for _ in 0..5 {
            assert!(service.running().health().is_healthy());
            // The back-off begins after this, in the end.
            started = Instant::now();
            let error = client.call_error(TEST, procedure, &[]);
            assert_eq!((error.code().as_str(), error.retryable()), ("internal", false));
            last = error.incident().map(str::to_owned);
        }
        let Health::Degraded(reasons) = service.running().health() else { panic!("it is healthy") };
        assert_eq!(reasons.len(), 1);
        assert!(reasons[0].subject.starts_with("handler ") && reasons[0].subject.contains("Bad"), "{reasons:?}");
        assert_eq!(reasons[0].incident, last);
        assert!(reasons[0].retry_at > reasons[0].since);
        // It is not even tried, and the caller is told when to come again.
        let error = client.call_error(TEST, procedure, &[]);
        if started.elapsed() < Duration::from_millis(90) {
            assert_eq!((error.code().as_str(), error.retryable()), ("internal", true));
            assert_eq!(error.incident(), last.as_deref());
            assert!(error.retry_after_ms().is_some_and(|ms| (1..=100).contains(&ms)), "{error:?}");
            assert_eq!(left.load(SeqCst), 1);
        }
        // Its neighbours at the same desk are unharmed.
        client.call(TEST, proc::COUNT, &[]);
        // The one try after the back-off fails; the next succeeds, after twice the time.
        eventually("it starts", || {
            client.send(&call(TEST, procedure, 1, &[]));
            client.packet().header.status == Status::Ok
        });
        assert!(started.elapsed() >= Duration::from_millis(280), "{:?}", started.elapsed());
        assert_eq!(left.load(SeqCst), 0);
        assert!(service.running().health().is_healthy());
    }
}

#[test]
fn a_thread_that_cannot_be_started_is_tried_again_while_the_others_serve() {
    let service = Binary::serve_with_descriptors(
        64,
        "io_arbiters = 1\nmin_workers = 1\nmax_workers = 64\nprio_workers = 0\nasync_workers = 1\n",
    );
    let mut client = service.client();
    let block = |serial| call(ECHO, echo::BLOCK, serial, &map([("ms", 20.into())]));
    // Sixty threads need more descriptors than there are.
    client.send(&(0..60).flat_map(block).collect::<Vec<u8>>());
    let mut serials: Vec<u32> = (0..60).map(|_| client.packet()).map(|p| (p.value(), p.header.serial).1).collect();
    serials.sort_unstable();
    assert_eq!(serials, (0..60).collect::<Vec<_>>());
    eventually("the log says it", || service.log().contains("degraded; workers: cannot start the thread worker"));
    client.is_usable();
    eventually("it is in order again, because nobody needs more threads", || {
        client.call(DIRECTORY, 3, &[])["health"]["state"] == "healthy".into()
    });
}
