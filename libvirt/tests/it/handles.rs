//! Watches of descriptors through `virEventAddHandle`.

use std::io::{Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, mpsc};

use virt_sys::{
    VIR_EVENT_HANDLE_HANGUP as HANG_UP, VIR_EVENT_HANDLE_READABLE as READABLE, VIR_EVENT_HANDLE_WRITABLE as WRITABLE,
    virEventAddHandle, virEventUpdateHandle,
};

use crate::support::{PATIENCE, Seen, Watch, the_loop};

#[test]
fn a_pipe_with_something_to_read_calls_back_with_its_watch_its_descriptor_and_the_event_on_the_loops_thread() {
    let (mut ours, mut theirs) = pipe().unwrap();
    let fd = ours.as_raw_fd();
    let watch = Watch::handle(fd, READABLE, move |_| {
        let _ = ours.read(&mut [0]).unwrap();
    });
    assert!(watch.number > 0);
    for _ in 0..3 {
        theirs.write_all(b"x").unwrap();
        let number = watch.number;
        assert_eq!(watch.next(), Seen::Called { number, fd, events: READABLE, thread: the_loop().thread() });
        watch.is_quiet();
    }
    assert_eq!(watch.remove(), 0);
    watch.is_freed_once();
}

#[test]
fn a_watch_sees_what_its_mask_asks_for_and_a_new_mask_takes_effect() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let watch = Watch::handle(ours.as_raw_fd(), 0, |_| {});
    watch.is_quiet();

    // Level-triggered and never drained: each of these goes on until the next mask.
    watch.update(WRITABLE as i32);
    assert_eq!(watch.called(), WRITABLE);
    assert_eq!(watch.called(), WRITABLE);
    watch.update(READABLE as i32);
    the_loop().turn();
    watch.seen.try_iter().for_each(drop);
    watch.is_quiet();
    (&theirs).write_all(b"x").unwrap();
    assert_eq!(watch.called(), READABLE);

    watch.update(0);
    the_loop().turn();
    watch.seen.try_iter().for_each(drop);
    drop(theirs);
    watch.is_quiet();
    watch.update((READABLE | WRITABLE) as i32);
    assert_eq!(watch.called(), READABLE | WRITABLE | HANG_UP);

    assert_eq!(watch.remove(), 0);
    watch.is_freed_once();
}

#[test]
fn the_same_descriptor_can_be_watched_twice() {
    let (ours, mut theirs) = pipe().unwrap();
    let [silent, watch] = [0, READABLE].map(|mask| Watch::handle(ours.as_raw_fd(), mask, |_| {}));
    theirs.write_all(b"x").unwrap();
    assert_eq!(watch.called(), READABLE);
    silent.is_quiet();
    for watch in [silent, watch] {
        assert_eq!(watch.remove(), 0);
        watch.is_freed_once();
    }
}

#[test]
fn a_removal_is_an_error_the_second_time_and_for_a_number_of_no_watch() {
    let (ours, _theirs) = pipe().unwrap();
    let watch = Watch::handle(ours.as_raw_fd(), READABLE, |_| {});
    assert_eq!((watch.remove(), watch.remove()), (0, -1));
    watch.is_freed_once();
    assert_eq!(watch.remove(), -1);
    for number in [-1, 0, i32::MAX] {
        assert_eq!(Watch::remove_handle(number), -1);
        // SAFETY: it takes any numbers.
        unsafe { virEventUpdateHandle(number, 1) };
    }
}

#[test]
fn a_watch_that_removes_itself_is_freed_after_its_callback_has_returned() {
    let (ours, theirs) = pipe().unwrap();
    let watch = Watch::handle(ours.as_raw_fd(), READABLE, |number| assert_eq!(Watch::remove_handle(number), 0));
    drop(theirs);
    assert_eq!(watch.called(), HANG_UP, "and it is not freed before");
    watch.is_freed_once();
}

#[test]
fn a_watch_that_is_removed_while_its_callback_runs_is_removed_at_once_and_freed_when_the_callback_has_returned() {
    let (ours, mut theirs) = pipe().unwrap();
    let (entered, has_entered) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel::<()>();
    let watch = Watch::handle(ours.as_raw_fd(), READABLE, move |_| {
        entered.send(()).unwrap();
        may_leave.recv_timeout(PATIENCE).unwrap();
    });
    theirs.write_all(b"x").unwrap();
    has_entered.recv_timeout(PATIENCE).unwrap();
    assert_eq!(watch.remove(), 0);
    assert_eq!(watch.seen.try_iter().next(), None, "the callback still has the opaque");
    leave.send(()).unwrap();
    assert_eq!(watch.called(), READABLE);
    watch.is_freed_once();
}

#[test]
fn a_callback_may_add_watches_and_remove_others() {
    let (ours, mut theirs) = pipe().unwrap();
    let fd = ours.as_raw_fd();
    let other = Watch::handle(fd, 0, |_| {});
    let (added, has_added) = mpsc::channel();
    let other_number = other.number;
    let watch = Watch::handle(fd, READABLE, move |own| {
        assert_eq!((Watch::remove_handle(other_number), Watch::remove_handle(own)), (0, 0));
        added.send(Watch::handle(fd, READABLE, |_| {})).unwrap();
    });
    theirs.write_all(b"x").unwrap();
    watch.is_freed_once();
    other.is_freed_once();
    let added = has_added.recv_timeout(PATIENCE).unwrap();
    assert_eq!(added.called(), READABLE);
    assert_eq!(added.remove(), 0);
    added.is_freed_once();
}

#[test]
fn what_is_refused_is_not_freed() {
    for fd in [-1, i32::MAX] {
        let watch = Watch::handle(fd, READABLE, |_| {});
        assert_eq!(watch.number, -1);
        watch.is_quiet();
    }
}

#[test]
fn a_watch_needs_a_callback_and_no_free_callback() {
    static CALLED: Mutex<Option<mpsc::Sender<()>>> = Mutex::new(None);
    unsafe extern "C" fn called(watch: i32, _: i32, _: i32, _: *mut std::ffi::c_void) {
        Watch::remove_handle(watch);
        CALLED.lock().unwrap().take().unwrap().send(()).unwrap();
    }

    the_loop();
    let (_ours, theirs) = pipe().unwrap();
    let (sender, is_called) = mpsc::channel();
    *CALLED.lock().unwrap() = Some(sender);
    // SAFETY: the callback looks into no pointer.
    unsafe {
        assert_eq!(virEventAddHandle(theirs.as_raw_fd(), 2, None, std::ptr::null_mut(), None), -1);
        assert!(virEventAddHandle(theirs.as_raw_fd(), 2, Some(called), std::ptr::null_mut(), None) > 0);
    }
    is_called.recv_timeout(PATIENCE).unwrap();
    the_loop().turn();
}
