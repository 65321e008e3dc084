//! Overload, calls that fail again and again, and calls that hold their threads: what the service does about each.

use std::time::Duration;

use postroom_protocol::{Header, Metadata, PacketType};
use rmpv::Value;

use crate::support::*;

fn stats(client: &mut Client) -> Value {
    client.call(DIRECTORY, 3, &[])
}

fn block(serial: u32, ms: u64, deadline_ms: u32) -> Vec<u8> {
    let mut payload = Vec::new();
    let metadata = Metadata { deadline_ms: Some(deadline_ms), ..Metadata::default() };
    postroom_protocol::metadata::encode(&metadata, &mut payload);
    payload.extend(map([("ms", ms.into())]));
    packet(Header { packet_type: PacketType::CallWithMetadata, ..header(ECHO, 1, echo::BLOCK, serial) }, &payload)
}

/// How long the calls of a storm are of use: longer than the machine may stand still.
const OF_USE: Duration = Duration::from_secs(3);
/// How many calls there are in a storm, and how long each takes: twice what one worker can do while they are of use.
const CALLS: u32 = 300;
const EACH_MS: u64 = 20;

/// A storm of calls for one worker: how many are answered in time, how many shed, and how many told that they are late.
fn storm(queue_target: Duration) -> (usize, usize, usize) {
    let service = TestService::with(|config| {
        config.limits.min_workers = 1;
        config.limits.max_client_requests = 100_000;
        config.limits.queue_target = queue_target;
        config.limits.queue_interval = Duration::from_millis(50);
    });
    let mut client = service.client();
    let of_use = OF_USE.as_millis() as u32;
    client.send(&(0..CALLS).flat_map(|serial| block(serial, EACH_MS, of_use)).collect::<Vec<u8>>());
    let (mut done, mut shed, mut late) = (0, 0, 0);
    for _ in 0..CALLS {
        let packet = client.packet();
        match packet.header.status {
            postroom_protocol::Status::Ok => done += 1,
            _ => match packet.error() {
                error if error.code() == "overloaded" => {
                    assert_eq!(error.limit(), Some(("queue_target", 10)));
                    assert_eq!(error.retry_after_ms(), Some(50));
                    shed += 1;
                }
                error => {
                    assert_eq!(error.code(), "deadline_exceeded");
                    late += 1;
                }
            },
        }
    }
    assert_eq!(stats(&mut client)["limits"]["queue_target"].as_u64().unwrap_or(0), shed as u64);
    // When it is over, calls are served as ever.
    client.send(&block(CALLS, 1, 60_000));
    client.reply(CALLS);
    (done, shed, late)
}

#[test]
fn with_queue_target_calls_are_shed_and_those_that_are_served_are_served_in_time() {
    let (done, shed, late) = storm(Duration::from_millis(10));
    println!("with a target: {done} done, {shed} shed, {late} late");
    // The queue is known as standing long before its calls are late.
    assert!(done > 0 && shed > CALLS as usize / 2, "{done} done, {shed} shed");
    assert_eq!(late, 0, "{done} done, {shed} shed");
    let (without, none, too_late) = storm(Duration::ZERO);
    println!("without: {without} done, {none} shed, {too_late} late");
    assert_eq!(none, 0);
    // One worker cannot have done more.
    let most = OF_USE.as_millis() as usize / EACH_MS as usize + 1;
    assert!(without <= most && too_late >= CALLS as usize - most, "{without} done, {too_late} late");
}

#[test]
fn a_call_that_has_panicked_three_times_is_refused_and_others_are_not() {
    let service = TestService::with(|config| config.limits.poison_after = 3);
    let mut client = service.client();
    let panic = |n: u64| map([("n", n.into())]);
    for _ in 0..3 {
        assert_eq!(client.call_error(ECHO, echo::PANIC, &panic(7)).code(), "internal");
    }
    let error = client.call_error(ECHO, echo::PANIC, &panic(7));
    assert_eq!((error.code().as_str(), error.retryable()), ("poisoned", false));
    assert_eq!(error.limit(), Some(("poison_after", 3)));
    assert_eq!(client.call_error(ECHO, echo::PANIC, &panic(8)).code(), "internal");
    assert_eq!(service.client().call_error(ECHO, echo::PANIC, &panic(7)).code(), "internal");
    client.is_usable();
    let stats = stats(&mut client);
    assert_eq!(stats["limits"]["poison_after"], 1.into());
    assert_eq!(stats["workers"]["restarts"], 5.into());
}

#[test]
fn futures_that_panic_poison_their_call_too_and_zero_turns_it_off() {
    let service = TestService::with(|config| config.limits.poison_after = 3);
    let mut client = service.client();
    let yields = map([("yields", 2.into())]);
    for _ in 0..3 {
        assert_eq!(client.call_error(TEST, proc::PANIC_FUTURE, &yields).code(), "internal");
    }
    assert_eq!(client.call_error(TEST, proc::PANIC_FUTURE, &yields).code(), "poisoned");
    drop(service);
    let service = TestService::with(|config| config.limits.poison_after = 0);
    let mut client = service.client();
    for _ in 0..6 {
        assert_eq!(client.call_error(TEST, proc::PANIC, &[]).code(), "internal");
    }
}

#[test]
fn a_call_beyond_stuck_after_is_named_and_its_workers_place_is_filled_until_it_returns() {
    let service = TestService::with(|config| {
        config.limits.min_workers = 1;
        config.limits.stuck_after = Duration::from_millis(100);
    });
    let mut stuck = service.client();
    stuck.send(&call(TEST, proc::GATE, 9, &map([("door", 1.into())])));
    service.gate().wait_for(1);
    // The only worker there may be is stuck, so this waits until its place is filled.
    let mut other = service.client();
    other.send(&call(TEST, proc::COUNT, 1, &[]));
    other.reply(1);
    // The other call may have looked stuck too, where the machine stood still while it ran.
    let mut now = stats(&mut other);
    eventually("only the one that is stuck holds its worker", || {
        now = stats(&mut other);
        now["workers"]["abandoned"] == 1.into() && now["stuck"].as_array().unwrap().len() == 1
    });
    let named = &now["stuck"][0];
    assert_eq!(
        (&named["procedure"], &named["serial"], &named["thread"]),
        (&"test.gate".into(), &9.into(), &"worker 0".into())
    );
    assert!(named["age_ms"].as_u64().unwrap() >= 100, "{named}");
    assert!((1..=2).contains(&now["slow"]["blocking"].as_u64().unwrap()), "{now}");
    service.gate().open_all();
    stuck.reply(9);
    eventually("nothing is stuck, and the one that is too many has left", || {
        let now = stats(&mut other);
        now["stuck"].as_array().unwrap().is_empty() && now["workers"]["current"] == 1.into()
    });
}

#[test]
fn places_of_stuck_workers_are_filled_only_up_to_max_workers() {
    let service = TestService::with(|config| {
        config.limits.min_workers = 1;
        config.limits.stuck_after = Duration::from_millis(50);
    });
    let mut client = service.client();
    for serial in 0..2 {
        client.send(&call(TEST, proc::GATE, serial, &map([("door", 1.into())])));
        service.gate().wait_for(serial as usize + 1);
    }
    eventually("both are stuck", || stats(&mut client)["workers"]["abandoned"] == 2.into());
    client.send(&call(TEST, proc::COUNT, 7, &[]));
    client.silence(Duration::from_millis(300));
    assert_eq!(stats(&mut client)["workers"]["current"], 2.into());
    service.gate().open_all();
    let mut serials: Vec<u32> = (0..3).map(|_| client.packet().header.serial).collect();
    serials.sort_unstable();
    assert_eq!(serials, [0, 1, 7]);
}

#[test]
fn an_inline_call_that_holds_its_arbiter_and_an_async_one_that_does_not_wait_are_counted() {
    let service = TestService::start();
    let mut client = service.client();
    client.call(TEST, proc::HOLD_INLINE, &map([("ms", 1.into())]));
    client.call(TEST, proc::HOLD_ASYNC, &map([("ms", 1.into())]));
    let before = stats(&mut client)["slow"].clone();
    client.call(TEST, proc::HOLD_INLINE, &map([("ms", 20.into())]));
    // One that the watchdog sees on its rounds, and one that may be over before.
    client.call(TEST, proc::HOLD_ASYNC, &map([("ms", 400.into())]));
    client.call(TEST, proc::HOLD_ASYNC, &map([("ms", 105.into())]));
    // Any other inline call is one too many where its thread was not scheduled.
    eventually("all are counted", || {
        let after = stats(&mut client)["slow"].clone();
        let more = |class: &str| after[class].as_u64().unwrap() - before[class].as_u64().unwrap();
        assert!(more("asynchronous") <= 2 && more("blocking") == 0, "{after}");
        more("asynchronous") == 2 && more("inline") >= 1
    });
}

#[test]
fn a_stuck_worker_that_leaves_with_its_call_is_counted_no_more() {
    let service = TestService::with(|config| {
        config.limits.min_workers = 4;
        config.limits.stuck_after = Duration::from_millis(50);
    });
    let mut client = service.client();
    for serial in 0..4 {
        client.send(&call(TEST, proc::GATE, serial, &map([("door", 1.into())])));
    }
    service.gate().wait_for(4);
    eventually("all are stuck", || stats(&mut client)["workers"]["abandoned"] == 4.into());
    let workers = postroom::Workers { min_workers: 1, max_workers: 1, ..service.running().workers() };
    service.running().resize(workers).unwrap();
    service.gate().open_all();
    (0..4).for_each(|_| drop(client.packet()));
    eventually("one worker is left, and none is stuck", || {
        let now = stats(&mut client);
        (&now["workers"]["current"], &now["workers"]["abandoned"]) == (&1.into(), &0.into())
    });
}

#[test]
fn the_place_of_a_stuck_priority_worker_is_filled_too() {
    let service = TestService::with(|config| {
        config.limits.min_workers = 1;
        config.limits.prio_workers = 1;
        config.limits.stuck_after = Duration::from_millis(100);
    });
    let mut client = service.client();
    // An ordinary worker, the one in its place, and the priority worker.
    for serial in 0..3 {
        client.send(&call(TEST, proc::GATE_PRIORITY, serial, &map([("door", 1.into())])));
        service.gate().wait_for(serial as usize + 1);
    }
    // There is a second priority worker then.
    client.send(&call(TEST, proc::GATE_PRIORITY, 3, &map([("door", 1.into())])));
    service.gate().wait_for(4);
    assert_eq!(stats(&mut client)["workers"]["priority"], 2.into());
    service.gate().open_all();
    let mut serials: Vec<u32> = (0..4).map(|_| client.packet().header.serial).collect();
    serials.sort_unstable();
    assert_eq!(serials, [0, 1, 2, 3]);
    eventually("those that are too many have left", || {
        let now = stats(&mut client);
        (&now["workers"]["current"], &now["workers"]["priority"]) == (&1.into(), &1.into())
    });
}
