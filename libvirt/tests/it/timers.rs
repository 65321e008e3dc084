//! Timers through `virEventAddTimeout`.

use std::time::{Duration, Instant};

use virt_sys::virEventUpdateTimeout;

use crate::support::{Seen, Watch, the_loop};

#[test]
fn a_timer_fires_again_and_again_with_its_number_on_the_loops_thread() {
    let begun = Instant::now();
    let timer = Watch::timer(20, |_| {});
    assert!(timer.number > 0);
    for n_times in 1..=3 {
        let number = timer.number;
        assert_eq!(timer.next(), Seen::Called { number, fd: -1, events: 0, thread: the_loop().thread() });
        assert!(begun.elapsed() >= Duration::from_millis(20) * n_times);
    }
    assert_eq!(timer.remove(), 0);
    timer.is_freed_once();
}

#[test]
fn a_disabled_timer_fires_when_it_is_updated_and_not_any_more_when_it_is_disabled() {
    let timer = Watch::timer(-1, |_| {});
    timer.is_quiet();
    timer.update(5);
    timer.called();
    timer.called();
    timer.update(-1);
    the_loop().turn();
    timer.seen.try_iter().for_each(drop);
    timer.is_quiet();
    assert_eq!(timer.remove(), 0);
    timer.is_freed_once();
}

#[test]
fn a_timer_of_zero_fires_in_every_iteration() {
    let timer = Watch::timer(0, |_| {});
    the_loop().turn();
    let n_fired = timer.seen.try_iter().count();
    assert!(n_fired >= 2, "{n_fired} times");
    assert_eq!(timer.remove(), 0);
    timer.is_freed_once();
}

#[test]
fn a_timer_that_removes_itself_fires_once_and_is_freed_after_its_callback_has_returned() {
    let timer = Watch::timer(1, |number| assert_eq!(Watch::remove_timer(number), 0));
    timer.called();
    timer.is_freed_once();
    assert_eq!(timer.remove(), -1);
}

#[test]
fn a_timer_is_freed_however_busy_others_are() {
    let busy = Watch::timer(0, |_| {});
    let timer = Watch::timer(-1, |_| {});
    assert_eq!(timer.remove(), 0);
    timer.is_freed_once();
    assert_eq!(busy.remove(), 0);
    busy.is_freed_once();
}

#[test]
fn numbers_of_no_timer_are_harmless() {
    the_loop();
    for number in [-1, 0, i32::MAX] {
        assert_eq!(Watch::remove_timer(number), -1);
        // SAFETY: it takes any numbers.
        unsafe { virEventUpdateTimeout(number, 0) };
    }
}
