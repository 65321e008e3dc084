//! The rules on every kind of descriptor that people watch: pipes, Unix and TCP sockets, eventfds, timerfds, terminals,
//! and regular files. What a kind has of its own is in `kinds`; here each has to be like the others.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use postroom_actors::event_loop::{Driver, EventLoop, Events, Interval, LoopError};
use rustix::event::{EventfdFlags, eventfd};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::closing::out_of_reach;
use crate::support::{Journal, NOW, Running, hold, iterate_until};

/// A descriptor that is ready to be read.
struct Kind {
    name: &'static str,
    fd: OwnedFd,
    /// Takes what makes it ready. A regular file stays ready.
    drain: fn(&OwnedFd),
    is_always_ready: bool,
    /// The other end.
    _other: Option<OwnedFd>,
}

impl Kind {
    fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn drain(&self) {
        (self.drain)(&self.fd);
    }
}

fn read(fd: &OwnedFd) {
    assert!(rustix::io::read(fd, &mut [0; 64]).unwrap() > 0);
}

fn every_kind() -> Vec<Kind> {
    let kind = |name, fd: OwnedFd, other: Option<OwnedFd>| Kind {
        name,
        fd,
        drain: read,
        is_always_ready: false,
        _other: other,
    };
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"x").unwrap();
    let pipe = kind("pipe", reader.into(), Some(writer.into()));

    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"x").unwrap();
    let unix = kind("Unix socket", ours.into(), Some(theirs.into()));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = listener.accept().unwrap().0;
    theirs.write_all(b"x").unwrap();
    let tcp = kind("TCP socket", ours.into(), Some(theirs.into()));

    let eventfd = kind("eventfd", eventfd(7, EventfdFlags::NONBLOCK).unwrap(), None);

    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).unwrap();
    let at_once =
        Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: Timespec { tv_sec: 0, tv_nsec: 1 } };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &at_once).unwrap();
    let timerfd = kind("timerfd", timer, None);

    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = File::options().read(true).write(true).open(path).unwrap();
    rustix::io::write(&master, b"line\n").unwrap();
    let tty = kind("terminal", terminal.into(), Some(master));

    let file = tempfile::tempfile().unwrap();
    let file = Kind { is_always_ready: true, drain: |_| (), ..kind("regular file", file.into(), None) };

    let all = vec![pipe, unix, tcp, eventfd, timerfd, tty, file];
    all.iter().for_each(until_ready);
    all
}

/// Some kinds take a moment until what was put in at one end is there at the other.
fn until_ready(kind: &Kind) {
    let mut asked = [rustix::event::PollFd::new(&kind.fd, rustix::event::PollFlags::IN)];
    let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut asked, Some(&limit)), Ok(1), "{} is not ready", kind.name);
}

fn new_loop() -> (EventLoop, Driver) {
    EventLoop::new().unwrap()
}

#[test]
fn rules_01_and_02_on_every_kind_it_is_told_what_it_asks_for_until_it_is_drained() {
    for kind in every_kind() {
        let (events, mut driver) = new_loop();
        let told = Journal::new();
        let journal = told.clone();
        let watch = events
            .add_handle(kind.fd(), Events::READABLE, move |event| journal.push((event.fd, event.events)))
            .unwrap();
        for _ in 0..3 {
            assert_eq!(driver.iterate(NOW).unwrap(), 1, "{}", kind.name);
        }
        assert_eq!(told.take(), [(kind.fd(), Events::READABLE); 3], "{}", kind.name);
        events.update_handle(watch, Events::NONE).unwrap();
        assert_eq!(driver.iterate(NOW).unwrap(), 0, "{} with an empty mask", kind.name);
        events.update_handle(watch, Events::READABLE).unwrap();
        kind.drain();
        assert_eq!(driver.iterate(NOW).unwrap(), usize::from(kind.is_always_ready), "{} was drained", kind.name);
    }
}

#[test]
fn rule_03_on_every_kind_dispatch_in_order_of_registration() {
    let kinds = every_kind();
    let (events, mut driver) = new_loop();
    let told = Journal::new();
    let mut expected = Vec::new();
    for kind in kinds.iter().rev() {
        events.add_handle(kind.fd(), Events::READABLE, told.on_handle(kind.name)).unwrap();
        events.add_timeout(Interval::EveryIteration, told.on_timer("timer")).unwrap();
        expected.extend([kind.name, "timer"]);
    }
    driver.iterate(NOW).unwrap();
    assert_eq!(told.take(), expected);
}

#[test]
fn rule_04_on_every_kind_what_was_removed_or_updated_is_skipped_and_what_was_added_waits() {
    for kind in every_kind() {
        let (events, mut driver) = new_loop();
        let told = Journal::new();
        let others = Journal::new();
        let (fd, handle, journal, ids) = (kind.fd(), events.clone(), told.clone(), others.clone());
        let first = events
            .add_handle(fd, Events::READABLE, move |_| {
                journal.push("first");
                if let [removed, updated] = ids.take()[..] {
                    handle.remove_handle(removed).unwrap();
                    handle.update_handle(updated, Events::READABLE | Events::WRITABLE).unwrap();
                    handle.add_handle(fd, Events::READABLE, journal.on_handle("added")).unwrap();
                }
            })
            .unwrap();
        others.push(events.add_handle(fd, Events::READABLE, told.on_handle("removed")).unwrap());
        others.push(events.add_handle(fd, Events::READABLE, told.on_handle("updated")).unwrap());
        assert_eq!(driver.iterate(NOW).unwrap(), 1, "{}", kind.name);
        assert_eq!(told.take(), ["first"], "{}", kind.name);
        driver.iterate(NOW).unwrap();
        assert_eq!(told.take(), ["first", "updated", "added"], "{}", kind.name);
        events.remove_handle(first).unwrap();
    }
}

#[test]
fn rules_05_and_06_on_every_kind_a_callback_removes_itself_and_is_dropped_after_its_turn() {
    for kind in every_kind() {
        let (events, mut driver) = new_loop();
        let told = Journal::new();
        let (handle, journal, guard) = (events.clone(), told.clone(), told.at_drop("dropped"));
        events
            .add_handle(kind.fd(), Events::READABLE, move |event| {
                let _ = &guard;
                handle.remove_handle(event.id).unwrap();
                journal.push("removed itself");
            })
            .unwrap();
        for _ in 0..2 {
            driver.iterate(NOW).unwrap();
        }
        assert_eq!(told.take(), ["removed itself", "dropped"], "{}", kind.name);
        kind.drain();
    }
}

#[test]
fn rule_08_on_every_kind_a_handle_from_another_thread_wakes_the_loop() {
    for kind in every_kind() {
        let running = Running::new();
        let told = Journal::new();
        running.events.add_handle(kind.fd(), Events::READABLE, told.on_handle(())).unwrap();
        told.wait(1);
        drop(running);
    }
}

#[test]
fn rule_09_on_every_kind_a_closed_descriptor_is_found_and_told_once() {
    for (number, kind) in (5100..).zip(every_kind()) {
        let (events, mut driver) = new_loop();
        let told = Journal::new();
        kind.drain();
        let name = kind.name;
        let journal = told.clone();
        let _other = kind._other;
        let fd = out_of_reach(kind.fd, number);
        let mask = if kind.is_always_ready { Events::HANG_UP } else { Events::READABLE };
        let watch = events.add_handle(number, mask, move |event| journal.push(event.events)).unwrap();
        driver.iterate(NOW).unwrap();
        assert_eq!(told.len(), 0, "{name}");
        drop(fd);
        iterate_until(&mut driver, || told.len() > 0);
        assert_eq!(told.take(), [Events::ERROR], "{name}");
        assert_eq!(driver.iterate(NOW).unwrap(), 0, "{name} is told again");
        assert!(matches!(events.update_handle(watch, mask), Err(LoopError::NotOpen(_))), "{name}");
    }
}

#[test]
fn rule_11_on_every_kind_a_callback_that_panics_loses_its_own_watch_only() {
    for kind in every_kind() {
        let (events, mut driver) = new_loop();
        let told = Journal::new();
        events.add_handle(kind.fd(), Events::READABLE, |_| panic!("as asked")).unwrap();
        events.add_handle(kind.fd(), Events::READABLE, told.on_handle(())).unwrap();
        assert_eq!(driver.iterate(NOW).unwrap(), 2, "{}", kind.name);
        assert_eq!(driver.iterate(NOW).unwrap(), 1, "{}", kind.name);
        assert_eq!(told.len(), 2, "{}", kind.name);
    }
}

#[test]
fn rule_13_on_every_kind_watches_of_one_descriptor_are_told_each_what_it_asks_for() {
    for kind in every_kind() {
        let (events, mut driver) = new_loop();
        let told = Journal::new();
        for (name, mask) in [("reads", Events::READABLE), ("waits", Events::HANG_UP), ("reads too", Events::READABLE)] {
            events.add_handle(kind.fd(), mask, told.on_handle(name)).unwrap();
        }
        driver.iterate(NOW).unwrap();
        assert_eq!(told.take(), ["reads", "reads too"], "{}", kind.name);
        kind.drain();
        assert_eq!(driver.iterate(NOW).unwrap() > 0, kind.is_always_ready, "{}", kind.name);
    }
}

#[test]
fn rule_14_on_every_kind_the_end_of_the_loop_drops_the_callbacks_and_closes_nothing() {
    let kinds = every_kind();
    let (events, driver) = new_loop();
    let told = Journal::new();
    for kind in &kinds {
        let guard = told.at_drop(kind.name);
        events.add_handle(kind.fd(), Events::READABLE, move |_| hold(&guard)).unwrap();
    }
    drop(driver);
    assert_eq!(told.take(), kinds.iter().map(|kind| kind.name).collect::<Vec<_>>());
    kinds.iter().for_each(until_ready);
    assert!(matches!(events.add_handle(kinds[0].fd(), Events::READABLE, |_| ()), Err(LoopError::Ended)));
}
