//! The six functions that libvirt calls, from any thread and from inside any callback.
//!
//! They translate and decide nothing, but for one thing: what libvirt hands over becomes the loop's only when the watch
//! is sure to stay. So a watch is added with nothing to wait for, is accepted, and only then enabled. Nobody can fire or
//! remove it before, because nobody knows its number yet.

use std::ffi::{c_int, c_void};
use std::mem;
use std::num::TryFromIntError;
use std::panic::{AssertUnwindSafe, catch_unwind};

use postroom_actors::event_loop::{EventLoop, Events, HandleId, Interval, LoopError, TimerId};
use virt_sys::{virEventHandleCallback, virEventTimeoutCallback, virFreeCallback};

use crate::lent::{Acceptance, lend};
use crate::registration::{given, reached};

const REFUSED: c_int = -1;
const DONE: c_int = 0;

/// `virEventAddHandleFunc`
pub(crate) unsafe extern "C" fn add_handle(
    fd: c_int,
    mask: c_int,
    callback: virEventHandleCallback,
    opaque: *mut c_void,
    free: virFreeCallback,
) -> c_int {
    answer(|events| {
        let callback = callback?;
        let (acceptance, lent) = lend(opaque, free);
        let added = events.add_handle(fd, Events::NONE, move |event| {
            let Ok(watch) = c_int::try_from(event.id) else { return };
            // SAFETY: libvirt gave the function together with this `opaque`, which is not freed before this closure is
            // dropped. A function with this ABI does not unwind.
            unsafe { callback(watch, event.fd, event.events.bits().into(), lent.opaque()) };
        });
        let id = added.map_err(|error| log::debug!("libvirt's watch is refused: {error}")).ok()?;
        let enable = || match events_of(mask) {
            Events::NONE => Ok(()),
            mask => events.update_handle(id, mask),
        };
        settle(&acceptance, id.try_into(), enable, || events.remove_handle(id))
    })
}

/// `virEventUpdateHandleFunc`
pub(crate) unsafe extern "C" fn update_handle(watch: c_int, mask: c_int) {
    answer(|events| {
        let outcome = events.update_handle(HandleId::try_from(watch).ok()?, events_of(mask));
        outcome.map_err(|error| log::debug!("libvirt's update of a watch is refused: {error}")).ok().map(|()| DONE)
    });
}

/// `virEventRemoveHandleFunc`
pub(crate) unsafe extern "C" fn remove_handle(watch: c_int) -> c_int {
    answer(|events| events.remove_handle(HandleId::try_from(watch).ok()?).ok().map(|()| DONE))
}

/// `virEventAddTimeoutFunc`
pub(crate) unsafe extern "C" fn add_timeout(
    millis: c_int,
    callback: virEventTimeoutCallback,
    opaque: *mut c_void,
    free: virFreeCallback,
) -> c_int {
    answer(|events| {
        let callback = callback?;
        let (acceptance, lent) = lend(opaque, free);
        let added = events.add_timeout(Interval::Disabled, move |event| {
            let Ok(timer) = c_int::try_from(event.id) else { return };
            // SAFETY: as for handles.
            unsafe { callback(timer, lent.opaque()) };
        });
        let id = added.map_err(|error| log::debug!("libvirt's timer is refused: {error}")).ok()?;
        let enable = || match Interval::from_millis(millis) {
            Interval::Disabled => Ok(()),
            interval => events.update_timeout(id, interval),
        };
        settle(&acceptance, id.try_into(), enable, || events.remove_timeout(id))
    })
}

/// `virEventUpdateTimeoutFunc`
pub(crate) unsafe extern "C" fn update_timeout(timer: c_int, millis: c_int) {
    reached();
    answer(|events| {
        events.update_timeout(TimerId::try_from(timer).ok()?, Interval::from_millis(millis)).ok().map(|()| DONE)
    });
}

/// `virEventRemoveTimeoutFunc`
pub(crate) unsafe extern "C" fn remove_timeout(timer: c_int) -> c_int {
    answer(|events| events.remove_timeout(TimerId::try_from(timer).ok()?).ok().map(|()| DONE))
}

/// Runs an operation on the loop, and makes its answer libvirt's.
fn answer(operation: impl FnOnce(&EventLoop) -> Option<c_int>) -> c_int {
    caught(|| given().and_then(operation))
}

/// No panic (a logger's, say) goes on into C: it is a refusal.
fn caught(operation: impl FnOnce() -> Option<c_int>) -> c_int {
    match catch_unwind(AssertUnwindSafe(operation)) {
        Ok(answer) => answer.unwrap_or(REFUSED),
        Err(payload) => {
            // Its drop may panic too.
            mem::forget(payload);
            REFUSED
        }
    }
}

/// Makes what was added the loop's, and enables it. `None` where it cannot be: then it is the caller's, and no longer
/// in the loop.
fn settle(
    acceptance: &Acceptance,
    number: Result<c_int, TryFromIntError>,
    enable: impl FnOnce() -> Result<(), LoopError>,
    remove: impl FnOnce() -> Result<(), LoopError>,
) -> Option<c_int> {
    let Ok(number) = number else {
        // More than 2³¹ were added so far.
        let _ = remove();
        return None;
    };
    if !acceptance.accept() {
        // The loop has just ended.
        return None;
    }
    match enable() {
        Err(error @ LoopError::Refused { .. }) if acceptance.give_back() => {
            let _ = remove();
            log::debug!("libvirt's watch is refused: {error}");
            None
        }
        // A descriptor that was closed meanwhile is reported to the callback, and a loop that has ended has freed all.
        _ => Some(number),
    }
}

/// libvirt's mask. What has no meaning is ignored, as by libvirt's own loop.
fn events_of(mask: c_int) -> Events {
    let known = Events::READABLE | Events::WRITABLE | Events::ERROR | Events::HANG_UP;
    Events::from_bits(mask & c_int::from(known.bits())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use virt_sys::{
        VIR_EVENT_HANDLE_ERROR, VIR_EVENT_HANDLE_HANGUP, VIR_EVENT_HANDLE_READABLE, VIR_EVENT_HANDLE_WRITABLE,
    };

    use super::*;

    #[test]
    fn masks_are_libvirts_bit_by_bit() {
        let pairs = [
            (VIR_EVENT_HANDLE_READABLE, Events::READABLE),
            (VIR_EVENT_HANDLE_WRITABLE, Events::WRITABLE),
            (VIR_EVENT_HANDLE_ERROR, Events::ERROR),
            (VIR_EVENT_HANDLE_HANGUP, Events::HANG_UP),
        ];
        for (theirs, ours) in pairs {
            assert_eq!(events_of(theirs as c_int), ours);
            assert_eq!(u32::from(ours.bits()), theirs);
        }
        assert_eq!(events_of(0), Events::NONE);
        assert_eq!(events_of(16 | 1), Events::READABLE);
    }

    #[test]
    fn before_a_registration_everything_is_refused() {
        // SAFETY: no pointer is looked into, for there is no loop.
        unsafe {
            assert_eq!(add_timeout(0, None, std::ptr::null_mut(), None), REFUSED);
            assert_eq!(remove_timeout(1), REFUSED);
            assert_eq!(add_handle(0, 1, None, std::ptr::null_mut(), None), REFUSED);
            assert_eq!(remove_handle(1), REFUSED);
            update_handle(1, 1);
        }
    }

    #[test]
    fn a_panic_is_a_refusal() {
        assert_eq!(caught(|| panic!("a logger's panic")), REFUSED);
        assert_eq!(caught(|| Some(7)), 7);
    }

    #[test]
    fn what_cannot_be_enabled_is_removed_and_stays_its_callers() {
        let refused = || LoopError::Refused { fd: 3, source: std::io::Error::from_raw_os_error(28) };
        let mut n_removed = 0;
        let (acceptance, lent) = lend(std::ptr::null_mut(), None);
        let answer = settle(
            &acceptance,
            Ok(7),
            || Err(refused()),
            || {
                n_removed += 1;
                Ok(())
            },
        );
        assert_eq!((answer, n_removed), (None, 1));

        drop(lent);
        assert_eq!(settle(&acceptance, Ok(7), || Ok(()), || Ok(())), None, "the loop has ended");
    }

    #[test]
    fn a_number_that_libvirt_cannot_hold_is_refused() {
        let (acceptance, _lent) = lend(std::ptr::null_mut(), None);
        let mut n_removed = 0;
        let answer = settle(
            &acceptance,
            c_int::try_from(1_u64 << 31),
            || panic!("enabled"),
            || {
                n_removed += 1;
                Ok(())
            },
        );
        assert_eq!((answer, n_removed), (None, 1));
    }
}
