//! Registering, in a process where it was done before.

use postroom_libvirt::RegisterError;
use postroom_libvirt::event_loop::EventLoop;

use crate::support::the_loop;

#[test]
fn a_second_registration_is_an_error_that_says_so() {
    let first = the_loop().events();
    let (other, _driver) = EventLoop::new().unwrap();
    for events in [first, &other] {
        let error = postroom_libvirt::register(events).unwrap_err();
        assert_eq!(error, RegisterError::AlreadyRegistered);
        assert!(error.to_string().contains("for the whole process"), "{error}");
    }
}

#[test]
fn a_loop_that_has_ended_cannot_be_registered() {
    let (ended, driver) = EventLoop::new().unwrap();
    drop(driver);
    assert_eq!(postroom_libvirt::register(&ended).unwrap_err(), RegisterError::Ended);
}
