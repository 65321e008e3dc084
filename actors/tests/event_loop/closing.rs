//! Descriptors that were closed under their watch, and such as cannot be polled: rules 9 and 10.
//!
//! A number that one test closes, another thread may be given by the kernel. So these tests hold the numbers that they
//! close, by moving them out of reach first: each test to numbers of its own.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use postroom_actors::event_loop::{Driver, EventLoop, Events, Interval, LoopError};

use crate::support::{Journal, NOW, Pipe, iterate_until, keep_log, take_log};

/// A descriptor under a number so high that nobody else is given it.
pub(crate) fn out_of_reach(fd: impl Into<OwnedFd>, number: RawFd) -> OwnedFd {
    let moved = rustix::io::fcntl_dupfd_cloexec(fd.into(), number).unwrap();
    assert_eq!(moved.as_raw_fd(), number, "taken");
    moved
}

/// How often the loop goes round in a time in which it has nothing to do.
fn n_iterations(driver: &mut Driver, time: Duration) -> usize {
    let end = Instant::now() + time;
    let mut n = 0;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        driver.iterate(Some(left)).unwrap();
        n += 1;
    }
    n
}

/// More than a loop that sleeps goes round in a second or two; one that spins does it thousands of times.
const MANY: usize = 50;

/// Whether it was within a second and a half that something was found. The machine may stand still in one try; in all of
/// them it is the loop that takes long.
fn is_found_in_time(mut try_once: impl FnMut() -> Duration) {
    let took: Vec<Duration> = (0..10).map(|_| try_once()).take_while(|took| *took >= IN_TIME).collect();
    assert!(took.len() < 10, "after {took:?}");
}

const IN_TIME: Duration = Duration::from_millis(1500);

#[test]
fn rule_09_a_closed_descriptor_is_found_within_a_second_and_reported_once() {
    is_found_in_time(|| {
        let took = is_found_and_reported_once();
        println!("{took:?}");
        took
    });
}

/// How long it took to find it.
fn is_found_and_reported_once() -> Duration {
    keep_log();
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let pipe = Pipe::new();
    let fd = out_of_reach(pipe.reader, 5001);
    let mask = Events::READABLE;
    let mut watches = Vec::new();
    for _ in 0..2 {
        let journal = told.clone();
        watches.push(
            events.add_handle(fd.as_raw_fd(), mask, move |event| journal.push((event.id, event.events))).unwrap(),
        );
    }
    driver.iterate(NOW).unwrap();
    drop(fd);
    let closed = Instant::now();
    iterate_until(&mut driver, || told.len() > 0);
    let took = closed.elapsed();
    assert_eq!(told.take(), [(watches[0], Events::ERROR), (watches[1], Events::ERROR)]);
    assert!(take_log().iter().any(|line| line.contains(&format!("descriptor closed under {}", watches[0]))));

    assert!(n_iterations(&mut driver, Duration::from_millis(1200)) < MANY, "it spins");
    assert_eq!(told.len(), 0, "reported again");
    assert!(matches!(events.update_handle(watches[0], mask), Err(LoopError::NotOpen(5001))));
    driver.iterate(NOW).unwrap();
    assert_eq!(told.take(), [(watches[0], Events::ERROR)]);
    assert!(events.remove_handle(watches[0]).is_ok() && events.remove_handle(watches[1]).is_ok());
    took
}

#[test]
fn rule_09_a_closed_descriptor_is_found_by_the_next_operation_on_it() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let fd = out_of_reach(Pipe::new().reader, 5002);
    let watch = events.add_handle(5002, Events::READABLE, told.on_handle("updated")).unwrap();
    let other = events.add_handle(5002, Events::READABLE, told.on_handle("other")).unwrap();
    drop(fd);
    let updated = events.update_handle(watch, Events::READABLE | Events::WRITABLE);
    assert!(matches!(updated, Err(LoopError::NotOpen(5002))));
    assert_eq!(driver.iterate(NOW).unwrap(), 2);
    assert_eq!(told.take(), ["other", "updated"], "whose mask was changed goes to the end");
    assert_eq!(driver.iterate(NOW).unwrap(), 0);
    events.update_handle(other, Events::NONE).unwrap();
}

#[test]
fn rule_09_a_closed_descriptor_is_found_by_an_operation_that_changes_nothing_for_the_kernel() {
    for remove in [false, true] {
        let (events, mut driver) = EventLoop::new().unwrap();
        let told = Journal::new();
        let fd = out_of_reach(Pipe::new().reader, 5006);
        let both = Events::READABLE | Events::WRITABLE;
        let watch = events.add_handle(5006, Events::READABLE, told.on_handle("operated on")).unwrap();
        events.add_handle(5006, both, told.on_handle("other")).unwrap();
        drop(fd);
        if remove {
            events.remove_handle(watch).unwrap();
        } else {
            assert!(matches!(events.update_handle(watch, Events::WRITABLE), Err(LoopError::NotOpen(5006))));
        }
        driver.iterate(NOW).unwrap();
        let expected = if remove { vec!["other"] } else { vec!["other", "operated on"] };
        assert_eq!(told.take(), expected);
    }
}

#[test]
fn rule_09_a_file_that_stays_open_elsewhere_does_not_make_the_loop_spin() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let pipe = Pipe::new();
    // The kernel goes on to report the file for a number that it will not let anybody delete.
    let kept = pipe.reader.try_clone().unwrap();
    let fd = out_of_reach(pipe.reader, 5003);
    let watch = events.add_handle(5003, Events::READABLE, told.on_handle(())).unwrap();
    drop(fd);
    (&pipe.writer).write_all(b"x").unwrap();
    events.remove_handle(watch).unwrap();
    assert!(n_iterations(&mut driver, Duration::from_millis(300)) < MANY, "it spins");
    assert_eq!(told.len(), 0);
    // Everybody else is polled as before.
    let other = Pipe::new();
    events.add_handle(other.fd(), Events::READABLE, told.on_handle(())).unwrap();
    other.put();
    assert_eq!(driver.iterate(None).unwrap(), 1);
    drop(kept);
}

#[test]
fn rule_09_a_number_that_is_used_again_is_watched_as_what_it_is_now() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let fd = out_of_reach(Pipe::new().reader, 5004);
    let journal = told.clone();
    events.add_handle(5004, Events::READABLE, move |event| journal.push(event.events)).unwrap();
    drop(fd);
    let pipe = Pipe::full();
    let _fd = out_of_reach(pipe.reader, 5004);
    iterate_until(&mut driver, || told.len() > 0);
    assert_eq!(told.take()[0], Events::READABLE);
}

#[test]
fn rule_09_many_descriptors_are_swept_a_few_at_a_time() {
    is_found_in_time(one_of_many_is_found);
}

/// How long it took to find it.
fn one_of_many_is_found() -> Duration {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let pipes: Vec<Pipe> = (0..700).map(|_| Pipe::new()).collect();
    for pipe in &pipes {
        events.add_handle(pipe.fd(), Events::READABLE, |_| ()).unwrap();
    }
    let fd = out_of_reach(Pipe::new().reader, 5005);
    events.add_handle(5005, Events::READABLE, told.on_handle("closed")).unwrap();
    n_iterations(&mut driver, Duration::from_millis(300));
    drop(fd);
    let closed = Instant::now();
    iterate_until(&mut driver, || told.len() > 0);
    closed.elapsed()
}

#[test]
fn rule_10_what_cannot_be_polled_is_always_ready() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let file = tempfile::tempfile().unwrap();
    let reading = told.clone();
    let watch = events.add_handle(file.as_raw_fd(), Events::READABLE, move |event| reading.push(event.events)).unwrap();
    let both = told.clone();
    let mask = Events::READABLE | Events::WRITABLE;
    let other = events.add_handle(file.as_raw_fd(), mask, move |event| both.push(event.events)).unwrap();
    for _ in 0..3 {
        assert_eq!(driver.iterate(None).unwrap(), 2);
        assert_eq!(told.take(), [Events::READABLE, mask]);
    }
    events.remove_handle(other).unwrap();
    // No errors and no hang-ups ever, so who asks for nothing else is never called, and the loop sleeps.
    for mask in [Events::NONE, Events::ERROR] {
        events.update_handle(watch, mask).unwrap();
        assert!(n_iterations(&mut driver, Duration::from_millis(100)) < MANY, "it spins");
        assert_eq!(told.len(), 0);
    }
    let null = File::open("/dev/null").unwrap();
    events.add_handle(null.as_raw_fd(), Events::READABLE, told.on_handle(Events::HANG_UP)).unwrap();
    assert_eq!(driver.iterate(None).unwrap(), 1);
}

#[test]
fn rule_10_a_regular_file_that_is_closed_is_reported_and_spins_no_more() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let fd = out_of_reach(tempfile::tempfile().unwrap(), 5010);
    let journal = told.clone();
    events
        .add_handle(5010, Events::READABLE, move |event| {
            if event.events == Events::ERROR {
                journal.push(());
            }
        })
        .unwrap();
    driver.iterate(NOW).unwrap();
    drop(fd);
    iterate_until(&mut driver, || told.len() > 0);
    assert!(n_iterations(&mut driver, Duration::from_millis(100)) < MANY, "it spins");
    assert_eq!(told.len(), 1);
}

#[test]
fn rule_10_a_file_wakes_a_loop_that_sleeps_and_shares_it_with_timers() {
    let running = crate::support::Running::new();
    let told = Journal::new();
    let file = tempfile::tempfile().unwrap();
    running.events.add_handle(file.as_raw_fd(), Events::WRITABLE, told.on_handle("file")).unwrap();
    told.wait(3);
    let fired = Journal::new();
    running.events.add_timeout(Interval::Every(Duration::from_millis(1)), fired.on_timer(())).unwrap();
    fired.wait(3);
}

/// Descriptors are numbers to the loop; nothing it does closes one.
#[test]
fn the_loop_never_closes_a_descriptor() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let number = out_of_reach(Pipe::new().reader, 5007).as_raw_fd();
    assert!(matches!(events.add_handle(number, Events::READABLE, |_| ()), Err(LoopError::NotOpen(5007))));
    let pipe = Pipe::new();
    let watch = events.add_handle(pipe.fd(), Events::READABLE, |_| ()).unwrap();
    events.remove_handle(watch).unwrap();
    driver.iterate(NOW).unwrap();
    events.add_handle(pipe.fd(), Events::READABLE, |_| ()).unwrap();
    drop((events, driver));
    pipe.put();
    pipe.get();
}

#[test]
fn rule_09_a_watch_that_is_added_to_a_closed_descriptor_is_refused_and_the_others_are_told() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let fd = out_of_reach(Pipe::new().reader, 5008);
    let watch = events.add_handle(5008, Events::READABLE, told.on_handle("first")).unwrap();
    drop(fd);
    // The joined mask would stay the same, so nothing but the question itself asks the kernel.
    let added = events.add_handle(5008, Events::READABLE, told.on_handle("second"));
    assert!(matches!(added, Err(LoopError::NotOpen(5008))));
    driver.iterate(NOW).unwrap();
    assert_eq!(told.take(), ["first"]);
    events.remove_handle(watch).unwrap();

    let fd = out_of_reach(Pipe::new().reader, 5008);
    let watch = events.add_handle(5008, Events::READABLE, told.on_handle("third")).unwrap();
    drop(fd);
    assert!(matches!(events.update_handle(watch, Events::READABLE), Err(LoopError::NotOpen(5008))));
    driver.iterate(NOW).unwrap();
    assert_eq!(told.take(), ["third"]);
}

#[test]
fn rule_09_a_watch_that_is_added_to_a_number_used_again_sees_what_is_there_now_at_once() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let fd = out_of_reach(Pipe::new().reader, 5009);
    let old = events.add_handle(5009, Events::READABLE, told.on_handle("old")).unwrap();
    drop(fd);
    let _fd = out_of_reach(Pipe::full().reader, 5009);
    events.add_handle(5009, Events::READABLE, told.on_handle("new")).unwrap();
    events.remove_handle(old).unwrap();
    assert_eq!(driver.iterate(NOW).unwrap(), 1);
    assert_eq!(told.take(), ["new"]);
}
