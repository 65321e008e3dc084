//! The registration with libvirt, and the one variable that holds the loop.
//!
//! libvirt's six functions take no pointer to whom they belong to: they are the process's, and so is what they work on.
//! Nothing else of Postroom is process-wide.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use postroom_actors::event_loop::{EventLoop, LoopError, TimerId};
use virt_sys::{virEventRegisterImpl, virEventUpdateTimeout};

use crate::error::RegisterError;
use crate::functions;

/// The loop that was given to libvirt. It stays when it has ended, since libvirt goes on calling.
static GIVEN: OnceLock<EventLoop> = OnceLock::new();

/// Whether libvirt has called one of our functions: the proof that it took them.
static REACHED: AtomicBool = AtomicBool::new(false);

/// The number of no timer: they count up from 1.
const NO_TIMER: i32 = 0;

/// That a loop is libvirt's. It is so for good; dropping this changes nothing.
#[derive(Clone, Debug)]
#[must_use = "without it nothing tells whether libvirt has the loop"]
pub struct Registration {
    events: EventLoop,
}

impl Registration {
    /// The loop that libvirt uses.
    pub fn event_loop(&self) -> &EventLoop {
        &self.events
    }
}

/// Makes this loop libvirt's, for the whole process and for good: libvirt can neither forget nor replace an
/// implementation. Comes before the first connection, and before other threads use libvirt.
///
/// # Errors
///
/// [`RegisterError::AlreadyRegistered`] the second time, whichever loop it is, [`RegisterError::Occupied`] where
/// another implementation was there first, [`RegisterError::Ended`]. libvirt then uses what it used before.
pub fn register(events: &EventLoop) -> Result<Registration, RegisterError> {
    /// Until the first has found out whether libvirt took it, a second cannot be told which error it is.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);

    if has_ended(events) {
        return Err(RegisterError::Ended);
    }
    if GIVEN.set(events.clone()).is_err() {
        let ours = REACHED.load(Ordering::Relaxed);
        return Err(if ours { RegisterError::AlreadyRegistered } else { RegisterError::Occupied });
    }
    // SAFETY: the functions have the signatures and keep the contracts that libvirt documents for them, from any thread
    // and for as long as the process lives.
    unsafe {
        virEventRegisterImpl(
            Some(functions::add_handle),
            Some(functions::update_handle),
            Some(functions::remove_handle),
            Some(functions::add_timeout),
            Some(functions::update_timeout),
            Some(functions::remove_timeout),
        );
    }
    // libvirt does not say whether it took them, so it is asked to do something with no effect.
    // SAFETY: it takes any numbers, and does nothing where there is no such timer.
    unsafe { virEventUpdateTimeout(NO_TIMER, -1) };
    if REACHED.load(Ordering::Relaxed) {
        Ok(Registration { events: events.clone() })
    } else {
        Err(RegisterError::Occupied)
    }
}

fn has_ended(events: &EventLoop) -> bool {
    TimerId::try_from(NO_TIMER).is_ok_and(|none| matches!(events.remove_timeout(none), Err(LoopError::Ended)))
}

/// The loop, for the functions that libvirt calls.
pub(crate) fn given() -> Option<&'static EventLoop> {
    GIVEN.get()
}

/// Says that libvirt has our functions.
pub(crate) fn reached() {
    REACHED.store(true, Ordering::Relaxed);
}
