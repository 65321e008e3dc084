//! When and where callbacks are dropped, what panics and slowness cost, and the end: rules 6, 11, 12 and 14.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use postroom_actors::event_loop::{EventLoop, Events, Interval, LoopError};

use crate::support::{Journal, LIMIT, NOW, Pipe, Running, hold, keep_log, take_log};

#[test]
fn rule_06_a_callback_is_dropped_after_its_turn_with_no_lock_held() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let pipe = Pipe::full();
    let other = events.add_timeout(Interval::Disabled, |_| ()).unwrap();
    let (loop_, journal) = (events.clone(), told.clone());
    let dropped = OnDrop(Some({
        let (loop_, journal) = (events.clone(), told.clone());
        // Would wait for ever if the lock were held.
        move || journal.push(if loop_.remove_timeout(other).is_ok() { "dropped" } else { "dropped twice" })
    }));
    events
        .add_handle(pipe.fd(), Events::READABLE, move |event| {
            let _ = &dropped;
            loop_.remove_handle(event.id).unwrap();
            journal.push("still here");
        })
        .unwrap();
    driver.iterate(NOW).unwrap();
    driver.iterate(NOW).unwrap();
    assert_eq!(told.take(), ["still here", "dropped"]);
}

struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0.take().unwrap()();
    }
}

#[test]
fn rule_06_drops_are_not_starved_by_timers_and_keep_the_order_of_removal() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let pipe = Pipe::new();
    events.add_timeout(Interval::EveryIteration, |_| ()).unwrap();
    let guard = told.at_drop("handle");
    let handle = events.add_handle(pipe.fd(), Events::READABLE, move |_| hold(&guard)).unwrap();
    let guard = told.at_drop("timer");
    let timer = events.add_timeout(Interval::EveryIteration, move |_| hold(&guard)).unwrap();
    driver.iterate(NOW).unwrap();
    events.remove_timeout(timer).unwrap();
    events.remove_handle(handle).unwrap();
    assert_eq!(told.len(), 0, "dropped inside the call");
    driver.iterate(NOW).unwrap();
    assert_eq!(told.take(), ["timer", "handle"]);
}

#[test]
fn rule_06_removal_from_another_thread_returns_at_once_and_the_drop_tells_that_all_is_quiet() {
    let running = Running::new();
    let told = Journal::new();
    let pipe = Pipe::full();
    let (entered_in, entered) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (journal, guard) = (told.clone(), DropThread(told.clone()));
    let watch = running
        .events
        .add_handle(pipe.fd(), Events::READABLE, move |_| {
            let _ = &guard;
            entered_in.send(()).unwrap();
            released.recv_timeout(LIMIT).unwrap();
            journal.push(("callback ended", thread::current().id()));
        })
        .unwrap();
    entered.recv_timeout(LIMIT).unwrap();
    running.events.remove_handle(watch).unwrap(); // While the callback runs.
    assert!(matches!(running.events.remove_handle(watch), Err(LoopError::UnknownHandle(_))));
    assert_eq!(told.len(), 0);
    release.send(()).unwrap();
    told.wait(2);
    running.turn_around();
    let on_the_loop = running.thread_id();
    assert_eq!(told.take(), [("callback ended", on_the_loop), ("dropped", on_the_loop)]);
}

struct DropThread(Journal<(&'static str, thread::ThreadId)>);

impl Drop for DropThread {
    fn drop(&mut self) {
        self.0.push(("dropped", thread::current().id()));
    }
}

#[test]
fn rule_11_a_callback_that_panics_loses_its_own_watch_only() {
    keep_log();
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let pipe = Pipe::full();
    let guard = told.at_drop("handle dropped");
    let handle = events
        .add_handle(pipe.fd(), Events::READABLE, move |_| {
            hold(&guard);
            panic!("no more handles");
        })
        .unwrap();
    let loop_ = events.clone();
    let timer = events
        .add_timeout(Interval::EveryIteration, move |event| {
            loop_.remove_timeout(event.id).unwrap();
            panic!("{} went first", event.id);
        })
        .unwrap();
    events.add_handle(pipe.fd(), Events::READABLE, told.on_handle("other")).unwrap();
    assert_eq!(driver.iterate(NOW).unwrap(), 3);
    assert_eq!(driver.iterate(NOW).unwrap(), 1);
    assert_eq!(told.take(), ["other", "handle dropped", "other"]);
    let log = take_log();
    assert!(log.contains(&format!("ERROR {handle} is removed, its callback panicked: no more handles")), "{log:?}");
    assert!(log.contains(&format!("ERROR {timer} is removed, its callback panicked: {timer} went first")), "{log:?}");
    assert!(matches!(events.update_handle(handle, Events::READABLE), Err(LoopError::UnknownHandle(_))));
}

#[test]
fn rule_11_a_drop_that_panics_costs_nothing_else() {
    keep_log();
    let (events, mut driver) = EventLoop::new().unwrap();
    let guard = OnDrop(Some(|| panic!("not again")));
    let timer = events.add_timeout(Interval::Disabled, move |_| hold(&guard)).unwrap();
    events.remove_timeout(timer).unwrap();
    driver.iterate(NOW).unwrap();
    assert_eq!(take_log(), [format!("ERROR the drop of {timer} panicked: not again")]);
    assert!(events.add_timeout(Interval::Disabled, |_| ()).is_ok());
}

#[test]
fn rule_12_who_holds_the_loop_is_in_the_log_with_the_time() {
    keep_log();
    let (events, driver) = EventLoop::new().unwrap();
    // Longer than the machine may stand still, which is not to be put down to who is quick.
    let mut driver = driver.report_slow_after(Duration::from_millis(2000));
    let mut stall = Some(Duration::from_millis(2010));
    let slow = events
        .add_timeout(Interval::EveryIteration, move |_| stall.take().into_iter().for_each(thread::sleep))
        .unwrap();
    let quick = events.add_timeout(Interval::EveryIteration, |_| ()).unwrap();
    driver.iterate(NOW).unwrap();
    let log = take_log();
    let begin = format!("WARN {slow} held the event loop for ");
    let held = log.iter().find_map(|line| line.strip_prefix(&begin)?.strip_suffix(" ms")).expect("a line in the log");
    assert!((2010..100_000).contains(&held.parse::<u32>().unwrap()));
    assert!(!log.iter().any(|line| line.contains(&quick.to_string())), "{log:?}");
}

#[test]
fn rule_12_the_default_is_100_ms() {
    keep_log();
    let (events, mut driver) = EventLoop::new().unwrap();
    let mut stall = [110, 1].into_iter();
    events
        .add_timeout(Interval::EveryIteration, move |_| {
            stall.next().into_iter().for_each(|ms| thread::sleep(Duration::from_millis(ms)))
        })
        .unwrap();
    driver.iterate(NOW).unwrap();
    assert_eq!(take_log().len(), 1);
    assert!(format!("{driver:?}").contains("100ms"));
}

#[test]
fn rule_14_at_the_end_callbacks_are_dropped_on_the_loops_thread_and_operations_fail() {
    let running = Running::new();
    let told = Journal::new();
    let pipe = Pipe::new();
    let guard = DropThread(told.clone());
    let handle = running.events.add_handle(pipe.fd(), Events::READABLE, move |_| hold(&guard)).unwrap();
    let guard = DropThread(told.clone());
    let loop_ = running.events.clone();
    let late =
        OnDrop(Some(move || assert!(matches!(loop_.add_timeout(Interval::Disabled, |_| ()), Err(LoopError::Ended)))));
    let timer = running.events.add_timeout(Interval::Disabled, move |_| hold(&(&guard, &late))).unwrap();
    let on_the_loop = running.thread_id();
    let events = running.end();
    assert_eq!(told.take(), [("dropped", on_the_loop); 2]);

    assert!(matches!(events.add_handle(pipe.fd(), Events::READABLE, |_| ()), Err(LoopError::Ended)));
    assert!(matches!(events.update_handle(handle, Events::NONE), Err(LoopError::Ended)));
    assert!(matches!(events.remove_handle(handle), Err(LoopError::Ended)));
    assert!(matches!(events.add_timeout(Interval::Disabled, |_| ()), Err(LoopError::Ended)));
    assert!(matches!(events.update_timeout(timer, Interval::Disabled), Err(LoopError::Ended)));
    assert!(matches!(events.remove_timeout(timer), Err(LoopError::Ended)));
    events.stop();
}

#[test]
fn rule_14_a_driver_that_never_ran_ends_the_loop_when_it_is_dropped() {
    let (events, driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let guard = told.at_drop("dropped");
    events.add_timeout(Interval::EveryIteration, move |_| hold(&guard)).unwrap();
    drop(driver);
    assert_eq!(told.take(), ["dropped"]);
    assert!(matches!(events.add_timeout(Interval::Disabled, |_| ()), Err(LoopError::Ended)));
}
