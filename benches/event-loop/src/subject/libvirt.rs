//! libvirt's default loop, through its public functions. It is one per process, and takes milliseconds.

use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Pipe, Subject, lateness};

type HandleFn = extern "C" fn(c_int, c_int, c_int, *mut c_void);
type TimerFn = extern "C" fn(c_int, *mut c_void);
type FreeFn = extern "C" fn(*mut c_void);

const READABLE: c_int = 1;
const WRITABLE: c_int = 2;

unsafe extern "C" {
    safe fn virEventRegisterDefaultImpl() -> c_int;
    safe fn virEventRunDefaultImpl() -> c_int;
    fn virEventAddHandle(fd: c_int, mask: c_int, call: HandleFn, opaque: *mut c_void, free: Option<FreeFn>) -> c_int;
    safe fn virEventUpdateHandle(watch: c_int, mask: c_int);
    safe fn virEventRemoveHandle(watch: c_int) -> c_int;
    fn virEventAddTimeout(millis: c_int, call: TimerFn, opaque: *mut c_void, free: Option<FreeFn>) -> c_int;
    safe fn virEventRemoveTimeout(timer: c_int) -> c_int;
}

extern "C" fn on_handle(_: c_int, _: c_int, _: c_int, opaque: *mut c_void) {
    // SAFETY: it is the reference that `add_handle` gave away, and libvirt calls nobody after the free function.
    let count = unsafe { &*opaque.cast::<AtomicU64>() };
    count.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn free(opaque: *mut c_void) {
    // SAFETY: it is the reference that `add_handle` gave away, taken back once.
    drop(unsafe { Arc::from_raw(opaque.cast::<AtomicU64>()) });
}

extern "C" fn on_pipe(_: c_int, _: c_int, _: c_int, opaque: *mut c_void) {
    // SAFETY: it is the reference that `add_pipe` gave away, and libvirt calls nobody after the free function.
    unsafe { &*opaque.cast::<Pipe>() }.turn();
}

extern "C" fn free_pipe(opaque: *mut c_void) {
    // SAFETY: it is the reference that `add_pipe` gave away, taken back once.
    drop(unsafe { Arc::from_raw(opaque.cast::<Pipe>()) });
}

static TICKS: Mutex<Vec<Instant>> = Mutex::new(Vec::new());

extern "C" fn on_timer(_: c_int, _: *mut c_void) {
    if let Ok(mut ticks) = TICKS.lock() {
        ticks.push(Instant::now());
    }
}

pub struct Libvirt;

impl Libvirt {
    pub fn new() -> Libvirt {
        assert_eq!(virEventRegisterDefaultImpl(), 0);
        Libvirt
    }
}

impl Subject for Libvirt {
    fn name(&self) -> &'static str {
        "libvirt"
    }

    fn add_handle(&mut self, fd: RawFd, count: &Arc<AtomicU64>) -> u64 {
        let opaque = Arc::into_raw(count.clone()).cast_mut().cast();
        // SAFETY: the functions take what is passed with them, as above.
        let id = unsafe { virEventAddHandle(fd, READABLE, on_handle, opaque, Some(free)) };
        u64::try_from(id).unwrap()
    }

    fn add_pipe(&mut self, pipe: &Arc<Pipe>) -> u64 {
        let opaque = Arc::into_raw(pipe.clone()).cast_mut().cast();
        // SAFETY: as above.
        let id = unsafe { virEventAddHandle(pipe.fd(), READABLE, on_pipe, opaque, Some(free_pipe)) };
        u64::try_from(id).unwrap()
    }

    fn update_handle(&mut self, id: u64) {
        virEventUpdateHandle(id as c_int, WRITABLE);
    }

    fn remove_handle(&mut self, id: u64) {
        assert_eq!(virEventRemoveHandle(id as c_int), 0);
    }

    fn iterate(&mut self) {
        assert_eq!(virEventRunDefaultImpl(), 0);
    }

    fn ticks(&mut self, period: Duration, n_ticks: usize) -> Vec<f64> {
        *TICKS.lock().unwrap() = vec![Instant::now()];
        // SAFETY: the function ignores what is passed with it.
        let timer = unsafe { virEventAddTimeout(period.as_millis() as c_int, on_timer, std::ptr::null_mut(), None) };
        while TICKS.lock().unwrap().len() <= n_ticks {
            self.iterate();
        }
        assert_eq!(virEventRemoveTimeout(timer), 0);
        lateness(&TICKS.lock().unwrap(), period)
    }
}
