//! Invalid input is an error at the call, and changes nothing.

use postroom_actors::event_loop::{EventLoop, Events, HandleId, Interval, LoopError, TimerId};

use crate::support::{Journal, NOW, Pipe, hold};

#[test]
fn numbers_that_are_no_open_descriptors_are_refused_whatever_the_mask() {
    let (events, _driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    for fd in [-1, i32::MIN, 1_000_000] {
        for mask in [Events::NONE, Events::READABLE] {
            let guard = told.at_drop(());
            let added = events.add_handle(fd, mask, move |_| hold(&guard));
            assert!(matches!(added, Err(LoopError::NotOpen(refused)) if refused == fd));
            assert_eq!(told.take().len(), 1, "a refused callback is dropped by the call");
        }
    }
}

#[test]
fn ids_that_never_were_or_are_gone_are_refused() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let (handle, timer) = (HandleId::try_from(77).unwrap(), TimerId::try_from(0).unwrap());
    assert!(
        matches!(events.update_handle(handle, Events::READABLE), Err(LoopError::UnknownHandle(id)) if id == handle)
    );
    assert!(matches!(events.remove_handle(handle), Err(LoopError::UnknownHandle(_))));
    assert!(matches!(events.update_timeout(timer, Interval::EveryIteration), Err(LoopError::UnknownTimer(_))));
    assert!(matches!(events.remove_timeout(timer), Err(LoopError::UnknownTimer(id)) if id == timer));

    let pipe = Pipe::full();
    let told = Journal::new();
    let first = events.add_handle(pipe.fd(), Events::READABLE, told.on_handle("first")).unwrap();
    events.remove_handle(first).unwrap();
    let second = events.add_handle(pipe.fd(), Events::NONE, told.on_handle("second")).unwrap();
    assert_ne!(first, second, "an id was used again");
    assert!(events.update_handle(first, Events::READABLE).is_err());
    assert_eq!(driver.iterate(NOW).unwrap(), 0);
}

#[test]
fn ids_count_up_from_one_each_kind_on_its_own() {
    let (events, _driver) = EventLoop::new().unwrap();
    let pipe = Pipe::new();
    for n in 1..4 {
        let handle = events.add_handle(pipe.fd(), Events::READABLE, |_| ()).unwrap();
        let timer = events.add_timeout(Interval::Disabled, |_| ()).unwrap();
        assert_eq!((i32::try_from(handle), i32::try_from(timer)), (Ok(n), Ok(n)));
        events.remove_handle(handle).unwrap();
        events.remove_timeout(timer).unwrap();
    }
}

#[test]
fn a_descriptor_that_the_kernel_will_not_watch_is_refused_with_its_reason() {
    let (events, _driver) = EventLoop::new().unwrap();
    // An epoll set five levels deep is one too many.
    let mut sets = vec![rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap()];
    use std::os::fd::AsRawFd;
    for _ in 0..4 {
        let outer = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
        let data = rustix::event::epoll::EventData::new_u64(0);
        rustix::event::epoll::add(&outer, sets.last().unwrap(), data, rustix::event::epoll::EventFlags::IN).unwrap();
        sets.push(outer);
    }
    let told = Journal::new();
    let fd = sets.last().unwrap().as_raw_fd();
    let added = events.add_handle(fd, Events::READABLE, told.on_handle(()));
    let Err(error @ LoopError::Refused { .. }) = added else { panic!("{added:?}") };
    assert!(error.to_string().starts_with(&format!("descriptor {fd} cannot be watched: ")), "{error}");
    // The mask stays what it was where an update is refused.
    let watch = events.add_handle(fd, Events::NONE, told.on_handle(())).unwrap();
    assert!(matches!(events.update_handle(watch, Events::READABLE), Err(LoopError::Refused { .. })));
    events.update_handle(watch, Events::NONE).unwrap();
    events.remove_handle(watch).unwrap();
}
