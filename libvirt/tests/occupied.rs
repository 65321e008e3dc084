//! libvirt with another implementation. In a process of its own, since that one is the process's for good.

#![allow(clippy::unwrap_used)]

use postroom_libvirt::RegisterError;
use postroom_libvirt::event_loop::EventLoop;

#[test]
fn where_libvirt_has_its_own_loop_already_a_registration_is_an_error_that_says_so_the_second_time_too() {
    virt::event::event_register_default_impl().unwrap();
    let (events, _driver) = EventLoop::new().unwrap();
    for _ in 0..2 {
        let error = postroom_libvirt::register(&events).unwrap_err();
        assert_eq!(error, RegisterError::Occupied);
        assert!(error.to_string().contains("another event loop implementation"), "{error}");
    }
}
