//! What libvirt hands over with a callback: its `opaque`, and the function that frees it.
//!
//! Whoever holds it at its end has to free it, exactly once. That is the caller as long as the watch is not accepted,
//! and the loop from then on:
//!
//! ```text
//!   Callers ──── accept ────► Loops ──── the watch's closure is dropped ────► freed
//!      ▲  │                     │
//!      │  └─ the closure is dropped: Gone, not freed
//!      └──────── give_back ─────┘
//! ```
//!
//! The loop drops a watch's closure on its own thread, later, with no lock held, which is just when libvirt wants its
//! free callback to run. The one lock here is held for a move of two pointers.

use std::ffi::c_void;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virt_sys::virFreeCallback;

enum Owner {
    /// Whoever is adding the watch.
    Caller,
    /// The loop, which has to call this.
    Loop(virFreeCallback),
    /// The closure is gone.
    Gone,
}

/// The caller's side, while the watch is being added.
pub(crate) struct Acceptance {
    free: virFreeCallback,
    owner: Arc<Mutex<Owner>>,
}

/// The side of the watch's closure. When it is dropped, the `opaque` is freed if it is the loop's.
pub(crate) struct Lent {
    opaque: *mut c_void,
    owner: Arc<Mutex<Owner>>,
}

// SAFETY: libvirt's contract for an event loop is that callbacks get their `opaque` on the loop's thread, and that it is
// freed there, whichever thread added them. Here nothing looks into it.
unsafe impl Send for Lent {}

/// The two sides of what a caller hands over.
pub(crate) fn lend(opaque: *mut c_void, free: virFreeCallback) -> (Acceptance, Lent) {
    let owner = Arc::new(Mutex::new(Owner::Caller));
    (Acceptance { free, owner: owner.clone() }, Lent { opaque, owner })
}

fn lock(owner: &Mutex<Owner>) -> MutexGuard<'_, Owner> {
    // Nothing that could panic runs with the lock held.
    owner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Acceptance {
    /// It is the loop's now. Returns whether it is: not if the closure is gone already.
    pub(crate) fn accept(&self) -> bool {
        let mut owner = lock(&self.owner);
        if let Owner::Gone = *owner {
            return false;
        }
        *owner = Owner::Loop(self.free);
        true
    }

    /// It is the caller's again. Returns whether it is: not if it was freed already.
    pub(crate) fn give_back(&self) -> bool {
        let mut owner = lock(&self.owner);
        if let Owner::Gone = *owner {
            return false;
        }
        *owner = Owner::Caller;
        true
    }
}

impl Lent {
    /// What the callback is told.
    pub(crate) fn opaque(&self) -> *mut c_void {
        self.opaque
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let owner = mem::replace(&mut *lock(&self.owner), Owner::Gone);
        if let Owner::Loop(Some(free)) = owner {
            // SAFETY: the caller handed over both together for this call. It is the only one, since what is `Gone` stays
            // so, and no callback gets the pointer any more, since the closure that had it is being dropped.
            unsafe { free(self.opaque) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A watch whose `opaque` counts how often it is freed.
    fn counted(count: &AtomicUsize) -> (Acceptance, Lent) {
        unsafe extern "C" fn free(opaque: *mut c_void) {
            // SAFETY: it is the counter that was lent below, which outlives the test.
            unsafe { &*opaque.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
        }
        lend(std::ptr::from_ref(count).cast_mut().cast(), Some(free))
    }

    #[test]
    fn what_was_accepted_is_freed_once_with_the_closure() {
        let count = AtomicUsize::new(0);
        let (acceptance, lent) = counted(&count);
        assert!(acceptance.accept());
        assert_eq!(count.load(Ordering::Relaxed), 0);
        drop(lent);
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert!(!acceptance.give_back(), "it was freed");
        drop(acceptance);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_was_not_accepted_stays_its_callers() {
        let count = AtomicUsize::new(0);
        let (acceptance, lent) = counted(&count);
        drop(lent);
        assert!(!acceptance.accept(), "the closure is gone");

        let (acceptance, lent) = counted(&count);
        assert!(acceptance.accept() && acceptance.give_back());
        drop(lent);
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn without_a_free_callback_nothing_is_called() {
        let (acceptance, lent) = lend(std::ptr::null_mut(), None);
        assert!(acceptance.accept());
        assert!(lent.opaque().is_null());
        drop(lent);
    }
}
