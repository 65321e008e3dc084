//! How the pool grows, shrinks and shares: workers come when calls would wait, and leave when there is nothing to do.

use std::time::Duration;

use postroom::Workers;
use postroom_protocol::keepalive;

use crate::support::*;

fn door(door: u64) -> Vec<u8> {
    map([("door", door.into())])
}

fn gate(serial: u32) -> Vec<u8> {
    call(TEST, proc::GATE, serial, &door(serial.into()))
}

fn gate_async(serial: u32) -> Vec<u8> {
    call(TEST, proc::GATE_ASYNC, serial, &door(serial.into()))
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A service with so many workers at least and at most; idle ones leave after `idle`.
fn sized(min: usize, max: usize, idle: Duration) -> TestService {
    TestService::with(|config| {
        config.limits.min_workers = min;
        config.limits.max_workers = max;
        config.limits.worker_idle_timeout = idle;
    })
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn workers_come_at_once_when_calls_would_wait_and_no_more_than_may() {
    let service = sized(1, 5, LONG);
    let mut client = service.client();
    client.send(&(0..8).map(gate).collect::<Vec<_>>().concat());
    // No gate is open: five calls can only come if there are five workers.
    service.gate().wait_for(5);
    client.silence(ms(50));
    assert_eq!(service.gate().entered().len(), 5);
    service.gate().open_all();
    (0..8).for_each(|_| drop(client.packet().value()));
}

#[test]
fn six_slow_calls_on_at_most_five_workers_take_two_rounds() {
    let service = sized(2, 5, LONG);
    let mut client = service.client();
    client.send(&(0..6).map(gate).collect::<Vec<_>>().concat());
    // The first round: five run at once.
    let first = service.gate().wait_for(5);
    client.silence(ms(50));
    assert_eq!(service.gate().entered(), first);
    // The second, which begins when one of the first is done.
    service.gate().open(first[0]);
    client.reply(first[0] as u32);
    service.gate().wait_for(6);
    service.gate().open_all();
    (0..5).for_each(|_| drop(client.packet().value()));
}

#[test]
fn calls_that_come_one_by_one_get_workers_too() {
    let service = sized(1, 7, LONG);
    let mut client = service.client();
    for serial in 0..7 {
        client.send(&gate(serial));
        service.gate().wait_for(serial as usize + 1);
    }
    service.gate().open_all();
    (0..7).for_each(|_| drop(client.packet().value()));
}

/// How many threads of this kind the process of a service has.
fn threads(pid: u32, kind: &str) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with(&format!("postroom {kind}"))).count()
}

#[test]
fn a_burst_of_quick_calls_starts_no_thread_and_slow_ones_do_until_they_have_been_idle() {
    let service = Binary::serve(
        "min_workers = 2\nmax_workers = 6\nprio_workers = 0\nasync_workers = 1\nworker_idle_timeout = \"100ms\"\n",
    );
    let mut client = service.client();
    let quick = |serial| call(ECHO, echo::ECHO, serial, &parcel(1, b""));
    for _ in 0..100 {
        client.call(ECHO, echo::ECHO, &parcel(1, b""));
    }
    let burst: Vec<u8> = (0..200).flat_map(quick).collect();
    // Where a thread is not scheduled for long, quick calls look slow. If a burst were a reason of its own, it would be
    // one each time.
    eventually("some bursts in a row start no thread", || {
        eventually("there are two", || threads(service.pid(), "worker") == 2);
        (0..3).all(|_| {
            client.send(&burst);
            (0..200).for_each(|_| drop(client.packet().value()));
            threads(service.pid(), "worker") == 2
        })
    });
    let block = |serial| call(ECHO, echo::BLOCK, serial, &map([("ms", 50.into())]));
    eventually("there are six", || {
        client.send(&(0..6).flat_map(block).collect::<Vec<u8>>());
        (0..6).for_each(|_| drop(client.packet().value()));
        // They have been idle for a moment only.
        threads(service.pid(), "worker") == 6
    });
    eventually("there are two again", || threads(service.pid(), "worker") == 2);
    client.is_usable();
    client.call(ECHO, echo::ECHO, &parcel(1, b""));
}

#[test]
fn more_workers_are_there_at_once_and_fewer_when_running_calls_are_done() {
    let service = sized(1, 1, LONG);
    let mut client = service.client();
    client.send(&(0..6).map(gate).collect::<Vec<_>>().concat());
    service.gate().wait_for(1);
    let workers = service.running().workers();
    service.running().resize(Workers { max_workers: 4, ..workers }).unwrap();
    service.gate().wait_for(4);
    client.silence(ms(30));
    assert_eq!(service.gate().entered().len(), 4);
    // Three are too many now; what they run is finished and answered.
    service.running().resize(workers).unwrap();
    service.running().resize(workers).unwrap();
    assert_eq!(service.running().workers(), workers);
    let first: Vec<u64> = service.gate().entered();
    first.iter().for_each(|&door| service.gate().open(door));
    (0..4).for_each(|_| drop(client.packet().value()));
    // One worker is left, so of the last two one waits.
    service.gate().wait_for(5);
    client.silence(ms(50));
    assert_eq!(service.gate().entered().len(), 5);
    service.gate().open_all();
    (0..2).for_each(|_| drop(client.packet().value()));
    client.call(TEST, proc::COUNT, &[]);
}

#[test]
fn async_workers_come_and_go_without_losing_a_call() {
    let service = TestService::with(|config| config.limits.max_async_calls = 1);
    let mut client = service.client();
    client.send(&(0..4).map(gate_async).collect::<Vec<_>>().concat());
    service.gate().wait_for(1);
    let workers = service.running().workers();
    service.running().resize(Workers { async_workers: 3, ..workers }).unwrap();
    service.gate().wait_for(3);
    service.running().resize(Workers { async_workers: 1, ..workers }).unwrap();
    service.gate().open_all();
    (0..4).for_each(|_| drop(client.packet().value()));
    client.is_usable();
}

#[test]
fn resizing_under_load_loses_no_call_and_runs_none_twice() {
    let service = sized(1, 4, ms(1));
    let mut client = service.client();
    let workers = service.running().workers();
    let mut random = Random(4711);
    for round in 0..100 {
        let counts = (0..100).map(|serial| {
            let procedure = [proc::COUNT, proc::COUNT, proc::COUNT_ASYNC][serial as usize % 3];
            call(TEST, procedure, serial, &[])
        });
        client.send(&counts.collect::<Vec<_>>().concat());
        let max_workers = 1 + random.below(8) as usize;
        let min_workers = 1 + random.below(max_workers as u64) as usize;
        let async_workers = 1 + random.below(3) as usize;
        let prio_workers = random.below(3) as usize;
        let change = Workers { min_workers, max_workers, async_workers, prio_workers, ..workers };
        service.running().resize(change).unwrap();
        let mut serials: Vec<u32> = (0..100).map(|_| client.packet()).map(|p| (p.value(), p.header.serial).1).collect();
        serials.sort_unstable();
        assert_eq!(serials, (0..100).collect::<Vec<_>>(), "round {round}");
    }
}

#[test]
fn a_change_that_is_refused_says_why_and_changes_nothing() {
    let service = sized(2, 4, LONG);
    let before = service.running().workers();
    let refused = [
        (Workers { min_workers: 5, ..before }, "min_workers = 5: allowed is 1 to max_workers = 4"),
        (Workers { min_workers: 0, ..before }, "min_workers = 0: allowed is 1 to 1024"),
        (Workers { max_workers: 1025, ..before }, "max_workers = 1025: allowed is 1 to 1024"),
        (Workers { async_workers: 0, prio_workers: 1, ..before }, "async_workers = 0: allowed is 1 to 256"),
        (Workers { prio_workers: 257, ..before }, "prio_workers = 257: allowed is 0 to 256"),
        (Workers { worker_idle_timeout: Duration::ZERO, ..before }, "worker_idle_timeout = 0: allowed is 1 to "),
    ];
    for (change, expected) in refused {
        let error = service.running().resize(change).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\nis not\n{expected}");
        assert_eq!(service.running().workers(), before);
    }
}

#[test]
fn a_priority_call_gets_through_while_all_ordinary_workers_are_stuck() {
    let service = TestService::with(|config| {
        config.limits.min_workers = 2;
        config.limits.max_workers = 2;
        config.limits.prio_workers = 1;
    });
    let mut stuck = service.client();
    stuck.send(&(1..=10).map(gate).collect::<Vec<_>>().concat());
    service.gate().wait_for(2);
    // A third, priority worker takes none of the eight that wait.
    stuck.silence(ms(30));
    assert_eq!(service.gate().entered().len(), 2);
    let mut client = service.client();
    // What has to wait for a stuck worker never comes.
    for _ in 0..200 {
        client.call(ECHO, echo::NAP, &map([("ms", 0.into())]));
        client.call(ECHO, echo::QUICK, &parcel(1, b""));
        client.send(&keepalive::ping());
        assert_eq!(client.packet().header.procedure, keepalive::PONG);
    }
    assert_eq!(service.gate().entered().len(), 2);
    service.gate().open_all();
    (0..10).for_each(|_| drop(stuck.packet().value()));
}

#[test]
fn a_client_with_many_calls_waiting_delays_the_first_of_another_by_no_more_than_one_each_worker() {
    for procedure in [proc::GATE, proc::GATE_ASYNC] {
        let service = TestService::with(|config| {
            config.limits.min_workers = 1;
            config.limits.max_async_calls = 1;
            config.limits.io_arbiters = 1;
        });
        let pass = |serial: u32| call(TEST, procedure, serial, &door(serial.into()));
        let mut greedy = service.client();
        greedy.send(&(0..200).map(pass).collect::<Vec<_>>().concat());
        service.gate().wait_for(1);
        greedy.call(ECHO, echo::QUICK, &parcel(1, b""));
        let mut modest = service.client();
        modest.send(&pass(1000));
        // The pool is on the thread that reads: what it was sent before the first of these, it has by the second.
        modest.call(ECHO, echo::QUICK, &parcel(1, b""));
        modest.call(ECHO, echo::QUICK, &parcel(1, b""));
        service.gate().open(0);
        service.gate().wait_for(2);
        let next = service.gate().entered()[1];
        service.gate().open(next);
        service.gate().wait_for(3);
        assert!(service.gate().entered()[..3].contains(&1000), "{:?}", service.gate().entered());
        service.gate().open_all();
        (0..200).for_each(|_| drop(greedy.packet().value()));
        modest.reply(1000);
        // Each client's own calls ran in their order.
        let own: Vec<u64> = service.gate().entered().into_iter().filter(|&door| door < 1000).collect();
        assert_eq!(own, (0..200).collect::<Vec<_>>());
    }
}

#[test]
fn an_async_worker_that_is_dismissed_before_its_thread_runs_leaves_like_any_other() {
    let service = sized(1, 1, LONG);
    let workers = service.running().workers();
    for _ in 0..50 {
        service.running().resize(Workers { async_workers: 8, ..workers }).unwrap();
        service.running().resize(Workers { async_workers: 1, ..workers }).unwrap();
    }
    eventually("only one is left", || service.running().stats().workers.asynchronous == 1);
    let mut client = service.client();
    client.call(TEST, proc::COUNT_ASYNC, &[]);
}
