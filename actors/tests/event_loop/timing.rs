//! Timers, stalls, and who wakes the loop: rules 7 and 8.

use std::thread;
use std::time::{Duration, Instant};

use postroom_actors::event_loop::{EventLoop, Events, Interval};

use crate::support::{Journal, LIMIT, NOW, Pipe, Running, hold, iterate_until};

const PERIOD: Duration = Duration::from_millis(40);

#[test]
fn rule_07_after_a_stall_a_timer_fires_once_and_counts_from_there() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let fired = Journal::new();
    let journal = fired.clone();
    events.add_timeout(Interval::Every(PERIOD), move |_| journal.push(Instant::now())).unwrap();
    thread::sleep(PERIOD * 4);
    assert_eq!(driver.iterate(NOW).unwrap(), 1);
    let again = driver.iterate(NOW).unwrap();
    // The machine may stand still between the two for as long as the timer takes.
    assert!(again == 0 || fired.take()[0].elapsed() >= PERIOD - Duration::from_millis(1), "a burst to catch up");
    iterate_until(&mut driver, || fired.len() >= 2);
    let times = fired.take();
    assert!(times[1] - times[0] >= PERIOD - Duration::from_millis(1), "{times:?}");
}

#[test]
fn rule_07_a_timer_fires_again_and_again_and_never_early() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let fired = Journal::new();
    let journal = fired.clone();
    let start = Instant::now();
    events.add_timeout(Interval::Every(PERIOD), move |_| journal.push(Instant::now())).unwrap();
    iterate_until(&mut driver, || fired.len() == 5);
    for (n, time) in (1..).zip(fired.take()) {
        assert!(time - start >= PERIOD * n, "number {n} after {:?}", time - start);
    }
}

#[test]
fn rule_07_an_update_starts_to_count_anew_and_disabled_stops() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let fired = Journal::new();
    let updated = events.add_timeout(Interval::Every(PERIOD), fired.on_timer("updated")).unwrap();
    let stopped = events.add_timeout(Interval::Every(PERIOD), fired.on_timer("stopped")).unwrap();
    thread::sleep(PERIOD * 2);
    // Both have expired, and nobody has been told yet.
    let restarted = Instant::now();
    events.update_timeout(updated, Interval::Every(PERIOD)).unwrap();
    events.update_timeout(stopped, Interval::Disabled).unwrap();
    iterate_until(&mut driver, || fired.len() == 1);
    assert!(restarted.elapsed() >= PERIOD - Duration::from_millis(1));
    assert_eq!(fired.take(), ["updated"]);
    events.update_timeout(stopped, Interval::EveryIteration).unwrap();
    driver.iterate(NOW).unwrap();
    assert_eq!(fired.take(), ["stopped"]);
}

#[test]
fn rule_07_a_zero_timer_fires_in_every_iteration_and_starves_nobody() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let pipe = Pipe::full();
    events.add_timeout(Interval::EveryIteration, told.on_timer("zero")).unwrap();
    events.add_timeout(Interval::Every(Duration::ZERO), told.on_timer("also zero")).unwrap();
    events.add_handle(pipe.fd(), Events::READABLE, told.on_handle("handle")).unwrap();
    let later = events.add_timeout(Interval::Every(Duration::from_millis(1)), told.on_timer("later")).unwrap();
    thread::sleep(Duration::from_millis(2));
    for _ in 0..3 {
        // It does not sleep although it may.
        assert!(driver.iterate(Some(LIMIT)).unwrap() >= 3);
        let told = told.take();
        assert_eq!(told[..3], ["zero", "also zero", "handle"]);
        events.update_timeout(later, Interval::Every(Duration::from_millis(1))).unwrap();
    }
}

#[test]
fn rule_07_the_loop_sleeps_while_no_timer_is_due() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let fired = Journal::new();
    events.add_timeout(Interval::Every(PERIOD * 3), fired.on_timer(())).unwrap();
    let mut n_iterations = 0;
    iterate_until(&mut driver, || {
        n_iterations += 1;
        fired.len() == 2
    });
    assert!(n_iterations < 20, "{n_iterations} iterations for two timers");
}

#[test]
fn rule_08_a_timer_from_another_thread_wakes_the_loop() {
    let running = Sleeping::new();
    let fired = Journal::new();
    // Without being woken it would sleep for an hour.
    running.events.add_timeout(Interval::Every(Duration::from_secs(3600)), |_| ()).unwrap();
    running.until_asleep();
    running.events.add_timeout(Interval::Every(Duration::from_millis(1)), fired.on_timer("added")).unwrap();
    fired.wait(1);
    let timer = running.events.add_timeout(Interval::Disabled, fired.on_timer("updated")).unwrap();
    running.until_asleep();
    running.events.update_timeout(timer, Interval::Every(Duration::from_millis(1))).unwrap();
    let so_far = fired.len();
    fired.wait(so_far + 2);
}

#[test]
fn rule_08_a_handle_from_another_thread_wakes_the_loop() {
    let running = Sleeping::new();
    let told = Journal::new();
    let pipe = Pipe::full();
    running.until_asleep();
    let loop_ = running.events.clone();
    let journal = told.clone();
    let callback = move |event: postroom_actors::event_loop::HandleEvent| {
        journal.push("called");
        loop_.update_handle(event.id, Events::NONE).unwrap();
    };
    let watch = running.events.add_handle(pipe.fd(), Events::READABLE, callback).unwrap();
    told.wait(1);
    running.until_asleep();
    running.events.update_handle(watch, Events::READABLE).unwrap();
    told.wait(2);
}

#[test]
fn rule_08_a_removal_from_another_thread_wakes_the_loop_for_the_drop() {
    let running = Sleeping::new();
    let told = Journal::new();
    let pipe = Pipe::new();
    let guard = told.at_drop("dropped");
    let watch = running.events.add_handle(pipe.fd(), Events::READABLE, move |_| hold(&guard)).unwrap();
    running.until_asleep();
    running.events.remove_handle(watch).unwrap();
    told.wait(1);
}

#[test]
fn rule_08_stop_wakes_the_loop() {
    let running = Sleeping::new();
    running.until_asleep();
    drop(running);
}

/// A loop on a thread of its own, of which one can tell that it sleeps.
struct Sleeping {
    running: Running,
    thread: u32,
}

impl std::ops::Deref for Sleeping {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl Sleeping {
    fn new() -> Sleeping {
        let running = Running::new();
        let threads = Journal::new();
        let (journal, loop_) = (threads.clone(), running.events.clone());
        let callback = move |event: postroom_actors::event_loop::TimerEvent| {
            journal.push(rustix::thread::gettid().as_raw_nonzero().get() as u32);
            loop_.remove_timeout(event.id).unwrap();
        };
        running.events.add_timeout(Interval::EveryIteration, callback).unwrap();
        threads.wait(1);
        Sleeping { running, thread: threads.take()[0] }
    }

    /// Waits until the thread sleeps, which this loop does nowhere but in the poller.
    fn until_asleep(&self) {
        let end = Instant::now() + LIMIT;
        let status = format!("/proc/self/task/{}/stat", self.thread);
        let mut n_seen = 0;
        while n_seen < 3 {
            assert!(Instant::now() < end, "the loop does not go to sleep");
            let stat = std::fs::read_to_string(&status).unwrap();
            let asleep = stat.rsplit(')').next().unwrap().trim_start().starts_with('S');
            n_seen = if asleep { n_seen + 1 } else { 0 };
            thread::yield_now();
        }
    }
}
