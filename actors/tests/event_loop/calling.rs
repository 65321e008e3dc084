//! Who is called, with what, in which order: rules 1 to 5, 13 and 15.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use postroom_actors::event_loop::{EventLoop, Events, HandleId, Interval, LoopError, TimerId};

use crate::support::{Journal, NOW, Pipe};

#[test]
fn rule_01_a_mask_reports_errors_and_hang_ups_too_and_all_that_is_pending_at_once() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let both = told.clone();
    let mask = Events::READABLE | Events::WRITABLE;
    let watch = events.add_handle(ours.as_raw_fd(), mask, move |event| both.push(event)).unwrap();
    theirs.write_all(b"x").unwrap();
    assert_eq!(driver.iterate(NOW).unwrap(), 1);
    let event = told.take()[0];
    assert_eq!((event.id, event.fd, event.events), (watch, ours.as_raw_fd(), mask));

    events.update_handle(watch, Events::WRITABLE).unwrap();
    drop(theirs);
    assert_eq!(driver.iterate(NOW).unwrap(), 1);
    assert_eq!(told.take()[0].events, Events::WRITABLE | Events::HANG_UP);

    // The writing end of a pipe that nobody reads has an error, which is reported to a watch for anything at all.
    let Pipe { reader, writer } = Pipe::new();
    drop(reader);
    events.remove_handle(watch).unwrap();
    let error = told.clone();
    events.add_handle(writer.as_raw_fd(), Events::HANG_UP, move |event| error.push(event)).unwrap();
    assert_eq!(driver.iterate(NOW).unwrap(), 1);
    assert_eq!(told.take()[0].events, Events::ERROR);
}

#[test]
fn rule_01_an_empty_mask_is_not_told_of_a_hang_up() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let watch = events.add_handle(ours.as_raw_fd(), Events::NONE, told.on_handle("hang-up")).unwrap();
    drop(theirs);
    assert_eq!(driver.iterate(NOW).unwrap(), 0);
    events.update_handle(watch, Events::ERROR).unwrap();
    assert_eq!(driver.iterate(NOW).unwrap(), 1);
    events.update_handle(watch, Events::NONE).unwrap();
    assert_eq!(driver.iterate(NOW).unwrap(), 0);
    assert_eq!(told.take(), ["hang-up"]);
}

#[test]
fn rule_02_who_does_not_drain_is_called_again() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let pipe = Pipe::full();
    events.add_handle(pipe.fd(), Events::READABLE, told.on_handle(())).unwrap();
    for _ in 0..3 {
        assert_eq!(driver.iterate(NOW).unwrap(), 1);
    }
    pipe.get();
    assert_eq!(driver.iterate(NOW).unwrap(), 0);
    assert_eq!(told.len(), 3);
}

#[test]
fn rule_03_dispatch_in_order_of_registration_handles_and_timers_alike() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let pipes = [Pipe::full(), Pipe::full(), Pipe::full()];
    let handle = |at: usize, name| events.add_handle(pipes[at].fd(), Events::READABLE, told.on_handle(name)).unwrap();
    let timer = |name| events.add_timeout(Interval::EveryIteration, told.on_timer(name)).unwrap();
    let a = handle(2, 'a');
    let b = timer('b');
    handle(0, 'c');
    timer('d');
    handle(1, 'e');
    let mut iterate = || {
        driver.iterate(NOW).unwrap();
        told.take().into_iter().collect::<String>()
    };
    assert_eq!(iterate(), "abcde");
    // The same mask changes nothing, another one and back sends it to the end.
    events.update_handle(a, Events::READABLE).unwrap();
    assert_eq!(iterate(), "abcde");
    events.update_handle(a, Events::NONE).unwrap();
    assert_eq!(iterate(), "bcde");
    events.update_handle(a, Events::READABLE).unwrap();
    assert_eq!(iterate(), "bcdea");
    // A timer counts anew with every update, which is a registration.
    events.update_timeout(b, Interval::EveryIteration).unwrap();
    assert_eq!(iterate(), "cdeab");
}

#[test]
fn rule_03_holds_for_any_number_of_ready_watches() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let pipes: Vec<Pipe> = (0..600).map(|_| Pipe::full()).collect();
    for (n, pipe) in pipes.iter().rev().enumerate() {
        events.add_handle(pipe.fd(), Events::READABLE, told.on_handle(n)).unwrap();
    }
    assert_eq!(driver.iterate(NOW).unwrap(), 600);
    assert_eq!(told.take(), (0..600).collect::<Vec<_>>());
}

#[test]
fn rule_04_what_was_removed_or_updated_is_skipped_and_what_was_added_waits() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let pipes = [Pipe::full(), Pipe::full(), Pipe::full(), Pipe::full()];
    let others = Journal::<(HandleId, HandleId, TimerId, TimerId)>::new();
    let (first, loop_, journal, fd) = (others.clone(), events.clone(), told.clone(), pipes[3].fd());
    events
        .add_handle(pipes[0].fd(), Events::READABLE, move |_| {
            journal.push("first");
            let Some((removed, updated, removed_timer, updated_timer)) = first.take().pop() else { return };
            loop_.remove_handle(removed).unwrap();
            loop_.update_handle(updated, Events::READABLE | Events::WRITABLE).unwrap();
            loop_.remove_timeout(removed_timer).unwrap();
            loop_.update_timeout(updated_timer, Interval::EveryIteration).unwrap();
            loop_.add_handle(fd, Events::READABLE, journal.on_handle("added")).unwrap();
            loop_.add_timeout(Interval::EveryIteration, journal.on_timer("added timer")).unwrap();
        })
        .unwrap();
    let removed = events.add_handle(pipes[1].fd(), Events::READABLE, told.on_handle("removed")).unwrap();
    let updated = events.add_handle(pipes[2].fd(), Events::READABLE, told.on_handle("updated")).unwrap();
    let removed_timer = events.add_timeout(Interval::EveryIteration, told.on_timer("removed timer")).unwrap();
    let updated_timer = events.add_timeout(Interval::EveryIteration, told.on_timer("updated timer")).unwrap();
    others.push((removed, updated, removed_timer, updated_timer));

    assert_eq!(driver.iterate(NOW).unwrap(), 1);
    assert_eq!(told.take(), ["first"]);
    assert_eq!(driver.iterate(NOW).unwrap(), 5);
    assert_eq!(told.take(), ["first", "updated", "updated timer", "added", "added timer"]);
}

#[test]
fn rule_05_a_callback_may_remove_itself() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let pipe = Pipe::full();
    let (loop_, journal) = (events.clone(), told.clone());
    let handle = events
        .add_handle(pipe.fd(), Events::READABLE, move |event| {
            journal.push("handle");
            loop_.remove_handle(event.id).unwrap();
            assert!(matches!(loop_.remove_handle(event.id), Err(LoopError::UnknownHandle(_))));
        })
        .unwrap();
    let (loop_, journal) = (events.clone(), told.clone());
    let timer = events
        .add_timeout(Interval::EveryIteration, move |event| {
            journal.push("timer");
            loop_.remove_timeout(event.id).unwrap();
        })
        .unwrap();
    for _ in 0..3 {
        driver.iterate(NOW).unwrap();
    }
    assert_eq!(told.take(), ["handle", "timer"]);
    assert!(matches!(events.remove_handle(handle), Err(LoopError::UnknownHandle(id)) if id == handle));
    assert!(matches!(events.remove_timeout(timer), Err(LoopError::UnknownTimer(id)) if id == timer));
}

#[test]
fn rule_13_watches_of_one_descriptor_are_one_entry_in_the_poller() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let fd = ours.as_raw_fd();
    let masks = [Events::READABLE, Events::READABLE, Events::WRITABLE, Events::NONE];
    let watches: Vec<HandleId> = (0..)
        .zip(masks)
        .map(|(n, mask)| {
            let journal = told.clone();
            events.add_handle(fd, mask, move |event| journal.push((n, event.events))).unwrap()
        })
        .collect();
    assert_eq!(polled_masks(fd), [5 | 8 | 16], "one entry, for reading and writing");
    theirs.write_all(b"x").unwrap();
    driver.iterate(NOW).unwrap();
    assert_eq!(told.take(), [(0, Events::READABLE), (1, Events::READABLE), (2, Events::WRITABLE)]);

    events.remove_handle(watches[2]).unwrap();
    assert_eq!(polled_masks(fd), [1 | 8 | 16]);
    events.remove_handle(watches[0]).unwrap();
    driver.iterate(NOW).unwrap();
    assert_eq!(told.take(), [(1, Events::READABLE)]);
    (&ours).read_exact(&mut [0]).unwrap();
    events.update_handle(watches[1], Events::NONE).unwrap();
    assert_eq!(polled_masks(fd), [0_u32; 0]);
}

/// The masks with which epoll sets of this process have a descriptor.
fn polled_masks(fd: i32) -> Vec<u32> {
    let mut masks = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten() {
        for line in std::fs::read_to_string(entry.path()).unwrap_or_default().lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["tfd:", number, "events:", mask, ..] = words[..]
                && number.parse() == Ok(fd)
            {
                masks.push(u32::from_str_radix(mask, 16).unwrap());
            }
        }
    }
    masks
}

/// The benchmark measures this exactly. Here it is enough to tell constant from linear, which would be ten thousand
/// times as much, on a machine that is busy with other tests.
#[test]
fn rule_15_operations_cost_the_same_with_ten_watches_and_with_many() {
    let cost = |n_watches: usize| {
        let (events, _driver) = EventLoop::new().unwrap();
        let pipes: Vec<Pipe> = (0..n_watches.min(100)).map(|_| Pipe::new()).collect();
        let handles: Vec<HandleId> = (0..n_watches)
            .map(|n| events.add_handle(pipes[n % pipes.len()].fd(), Events::READABLE, |_| ()).unwrap())
            .collect();
        let far = Interval::Every(Duration::from_secs(3600));
        let timers: Vec<TimerId> = (0..n_watches).map(|_| events.add_timeout(far, |_| ()).unwrap()).collect();
        let rounds = (0..50).map(|round| {
            let start = Instant::now();
            for n in 0..20 {
                let at = (round * 7919 + n * 104_729) % n_watches;
                let id = events.add_handle(pipes[at % pipes.len()].fd(), Events::READABLE, |_| ()).unwrap();
                events.update_handle(handles[at], Events::WRITABLE).unwrap();
                events.update_handle(handles[at], Events::READABLE).unwrap();
                events.remove_handle(id).unwrap();
                let id = events.add_timeout(far, |_| ()).unwrap();
                events.update_timeout(timers[at], far).unwrap();
                events.remove_timeout(id).unwrap();
            }
            start.elapsed()
        });
        rounds.min().unwrap()
    };
    let (few, many) = (cost(10), cost(100_000));
    assert!(many < few * 50, "20 rounds of operations: {few:?} with 10 watches, {many:?} with 100,000");
}
