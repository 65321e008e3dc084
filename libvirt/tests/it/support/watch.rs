//! Watches and timers through libvirt's own C interface, with callbacks that tell what they see.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, ThreadId};

use virt_sys::*;

use super::{PATIENCE, the_loop};

thread_local! {
    /// Which of the calls below this thread is in.
    static INSIDE_CALLBACK: Cell<bool> = const { Cell::new(false) };
    static INSIDE_REMOVAL: Cell<bool> = const { Cell::new(false) };
}

/// What a callback was told, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Called { number: c_int, fd: c_int, events: u32, thread: ThreadId },
    Freed { thread: ThreadId, inside_callback: bool, inside_removal: bool },
}

type Action = Box<dyn FnMut(c_int) + Send>;

/// What `opaque` points to. It is never deallocated, so that a second free would be counted and not be a crash.
struct Recorder {
    seen: Mutex<Sender<Seen>>,
    action: Mutex<Action>,
}

impl Recorder {
    fn called(&self, number: c_int, fd: c_int, events: u32) {
        INSIDE_CALLBACK.set(true);
        (self.action.lock().unwrap())(number);
        self.seen.lock().unwrap().send(Seen::Called { number, fd, events, thread: thread::current().id() }).ok();
        INSIDE_CALLBACK.set(false);
    }

    fn freed(&self) {
        let freed = Seen::Freed {
            thread: thread::current().id(),
            inside_callback: INSIDE_CALLBACK.get(),
            inside_removal: INSIDE_REMOVAL.get(),
        };
        self.seen.lock().unwrap().send(freed).ok();
    }
}

unsafe fn recorder<'a>(opaque: *mut c_void) -> &'a Recorder {
    // SAFETY: every `opaque` of these tests is a leaked recorder.
    unsafe { &*opaque.cast::<Recorder>() }
}

unsafe extern "C" fn on_handle(watch: c_int, fd: c_int, events: c_int, opaque: *mut c_void) {
    // SAFETY: as there.
    unsafe { recorder(opaque) }.called(watch, fd, events as u32);
}

unsafe extern "C" fn on_timeout(timer: c_int, opaque: *mut c_void) {
    // SAFETY: as there.
    unsafe { recorder(opaque) }.called(timer, -1, 0);
}

unsafe extern "C" fn on_free(opaque: *mut c_void) {
    // SAFETY: as there.
    unsafe { recorder(opaque) }.freed();
}

/// A recorder that does this when it is called, and what it records.
fn leak(action: impl FnMut(c_int) + Send + 'static) -> (*mut c_void, Receiver<Seen>) {
    let (sender, seen) = mpsc::channel();
    let recorder = Recorder { seen: Mutex::new(sender), action: Mutex::new(Box::new(action)) };
    (std::ptr::from_mut(Box::leak(Box::new(recorder))).cast(), seen)
}

#[derive(Clone, Copy)]
enum Kind {
    Handle,
    Timer,
}

/// A watch or a timer.
pub struct Watch {
    /// What libvirt answered.
    pub number: c_int,
    kind: Kind,
    pub seen: Receiver<Seen>,
}

impl Watch {
    /// virEventAddHandle
    pub fn handle(fd: c_int, mask: u32, action: impl FnMut(c_int) + Send + 'static) -> Watch {
        the_loop();
        let (opaque, seen) = leak(action);
        // SAFETY: the functions take this `opaque`, and it lives for ever.
        let number = unsafe { virEventAddHandle(fd, mask as c_int, Some(on_handle), opaque, Some(on_free)) };
        Watch { number, kind: Kind::Handle, seen }
    }

    /// virEventAddTimeout
    pub fn timer(millis: c_int, action: impl FnMut(c_int) + Send + 'static) -> Watch {
        the_loop();
        let (opaque, seen) = leak(action);
        // SAFETY: as above.
        let number = unsafe { virEventAddTimeout(millis, Some(on_timeout), opaque, Some(on_free)) };
        Watch { number, kind: Kind::Timer, seen }
    }

    /// virEventUpdateHandle or virEventUpdateTimeout
    pub fn update(&self, value: c_int) {
        // SAFETY: both take any numbers.
        unsafe {
            match self.kind {
                Kind::Handle => virEventUpdateHandle(self.number, value),
                Kind::Timer => virEventUpdateTimeout(self.number, value),
            }
        }
    }

    /// virEventRemoveHandle or virEventRemoveTimeout
    pub fn remove(&self) -> c_int {
        match self.kind {
            Kind::Handle => Watch::remove_handle(self.number),
            Kind::Timer => Watch::remove_timer(self.number),
        }
    }

    pub fn remove_handle(watch: c_int) -> c_int {
        INSIDE_REMOVAL.set(true);
        // SAFETY: it takes any number.
        let answer = unsafe { virEventRemoveHandle(watch) };
        INSIDE_REMOVAL.set(false);
        answer
    }

    pub fn remove_timer(timer: c_int) -> c_int {
        INSIDE_REMOVAL.set(true);
        // SAFETY: it takes any number.
        let answer = unsafe { virEventRemoveTimeout(timer) };
        INSIDE_REMOVAL.set(false);
        answer
    }

    /// What is seen next.
    #[track_caller]
    pub fn next(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).expect("nothing happens")
    }

    /// That it was called next: with what events, on the loop's thread.
    #[track_caller]
    pub fn called(&self) -> u32 {
        match self.next() {
            Seen::Called { number, events, thread, .. } => {
                assert_eq!((number, thread), (self.number, the_loop().thread()));
                events
            }
            freed => panic!("{freed:?}"),
        }
    }

    /// That it is freed, after any number of calls: on the loop's thread, neither in the callback nor in the removal,
    /// and once.
    #[track_caller]
    pub fn is_freed_once(&self) {
        let freed = loop {
            match self.next() {
                Seen::Called { .. } => {}
                freed => break freed,
            }
        };
        let thread = the_loop().thread();
        assert_eq!(freed, Seen::Freed { thread, inside_callback: false, inside_removal: false });
        self.is_quiet();
    }

    /// That nothing happens, however often the loop turns.
    #[track_caller]
    pub fn is_quiet(&self) {
        the_loop().turn();
        assert_eq!(self.seen.try_iter().collect::<Vec<_>>(), []);
    }
}
