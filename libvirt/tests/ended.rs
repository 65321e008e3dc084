//! libvirt goes on calling a loop that has ended. In a process of its own, since the loop is the process's for good.

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use postroom_libvirt::event_loop::EventLoop;
use virt::connect::Connect;
use virt_sys::*;

/// How often each was freed, and on which threads.
static FREED: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];

thread_local! {
    static FREED_HERE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

unsafe extern "C" fn on_free(opaque: *mut c_void) {
    FREED[opaque as usize].fetch_add(1, Ordering::Relaxed);
    FREED_HERE.with_borrow_mut(|here| here.push(opaque as usize));
}

unsafe extern "C" fn on_timeout(_: c_int, _: *mut c_void) {}
unsafe extern "C" fn on_handle(_: c_int, _: c_int, _: c_int, _: *mut c_void) {}

fn add_timeout(which: usize) -> c_int {
    // SAFETY: `opaque` is a number, which nothing looks into.
    unsafe { virEventAddTimeout(0, Some(on_timeout), which as *mut c_void, Some(on_free)) }
}

fn add_handle(which: usize) -> c_int {
    // SAFETY: as above.
    unsafe { virEventAddHandle(0, 1, Some(on_handle), which as *mut c_void, Some(on_free)) }
}

fn freed() -> [usize; 3] {
    [0, 1, 2].map(|which| FREED[which].load(Ordering::Relaxed))
}

#[test]
fn when_the_loop_has_ended_what_is_left_is_freed_on_its_thread_and_every_function_refuses() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let _registration = postroom_libvirt::register(&events).unwrap();
    let (timer, watch) = (add_timeout(0), add_handle(1));
    assert!(timer > 0 && watch > 0);
    let connection = Connect::open(Some("test:///default")).unwrap();

    events.stop();
    let freed_there = thread::spawn(move || {
        driver.run().unwrap();
        drop(driver);
        FREED_HERE.take()
    });
    assert_eq!(freed_there.join().unwrap(), [0, 1]);
    assert_eq!(freed(), [1, 1, 0]);

    assert_eq!((add_timeout(2), add_handle(2)), (-1, -1));
    // SAFETY: they take any numbers.
    unsafe {
        assert_eq!((virEventRemoveTimeout(timer), virEventRemoveHandle(watch)), (-1, -1));
        virEventUpdateTimeout(timer, 0);
        virEventUpdateHandle(watch, 1);
    }
    assert_eq!(freed(), [1, 1, 0], "what was refused is not freed, and nothing is freed twice");

    // libvirt's own objects outlive the loop too: it calls on, and is refused.
    assert!(connection.lookup_domain_by_name("test").unwrap().destroy().is_ok());
    drop(connection);
    drop(Connect::open(Some("test:///default")).unwrap());
}
