//! Connections to a real `libvirtd`: what its client side does between calls, it does on the loop.

use std::ffi::{c_int, c_void};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, ThreadId};

use virt::connect::Connect;
use virt_sys::*;

use crate::support::{Daemon, Lifecycle, Line, PATIENCE, domain, the_loop};

/// Through the daemon to its test driver.
fn connect(socket: &Path) -> Connect {
    the_loop();
    Connect::open(Some(&format!("test+unix:///default?socket={}", socket.display()))).unwrap()
}

/// What a close callback tells.
struct Closing {
    /// Why, and on which thread.
    reasons: Receiver<(u32, ThreadId)>,
    /// One when it is freed.
    freed: Receiver<()>,
}

type Told = (Sender<(u32, ThreadId)>, Sender<()>);

unsafe extern "C" fn on_close(_: virConnectPtr, reason: c_int, told: *mut c_void) {
    // SAFETY: it is what was registered, and not freed yet.
    let (reasons, _) = unsafe { &*told.cast::<Told>() };
    reasons.send((reason as u32, thread::current().id())).ok();
}

unsafe extern "C" fn on_free(told: *mut c_void) {
    // SAFETY: it was made by `Box::into_raw`, and libvirt frees it once.
    let (_, freed) = *unsafe { Box::from_raw(told.cast::<Told>()) };
    freed.send(()).ok();
}

impl Closing {
    fn of(connection: &Connect) -> Closing {
        let ((reasons_sender, reasons), (freed_sender, freed)) = (mpsc::channel(), mpsc::channel());
        let told: *mut Told = Box::into_raw(Box::new((reasons_sender, freed_sender)));
        // SAFETY: the functions take this pointer and it is theirs now.
        let answer =
            unsafe { virConnectRegisterCloseCallback(connection.as_ptr(), Some(on_close), told.cast(), Some(on_free)) };
        assert_eq!(answer, 0);
        Closing { reasons, freed }
    }

    /// Why the connection was closed: told once, on the loop's thread. The registration then ends.
    #[track_caller]
    fn reason(self, connection: &Connect) -> u32 {
        let (reason, thread) = self.reasons.recv_timeout(PATIENCE).expect("the close callback does not run");
        assert_eq!(thread, the_loop().thread());
        the_loop().turn();
        assert_eq!(self.reasons.try_recv().ok(), None, "told twice");
        // SAFETY: the connection is open as far as libvirt's API goes.
        unsafe { virConnectUnregisterCloseCallback(connection.as_ptr(), Some(on_close)) };
        self.freed.recv_timeout(PATIENCE).expect("the callback's opaque is not freed");
        reason
    }
}

#[test]
fn domain_events_of_the_daemon_are_told_on_the_loops_thread() {
    let daemon = Daemon::start();
    let connection = connect(&daemon.socket());
    let domain = domain(&connection, "remote");
    let events = Lifecycle::of(&connection, &domain, |_| {});
    let thread = the_loop().thread();
    domain.create().unwrap();
    assert_eq!(events.next(), ("remote".to_owned(), VIR_DOMAIN_EVENT_STARTED, thread));
    domain.destroy().unwrap();
    assert_eq!(events.next(), ("remote".to_owned(), VIR_DOMAIN_EVENT_STOPPED, thread));
    Lifecycle::deregister(&connection, events.id);
    events.freed.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_connection_notices_at_once_that_the_daemon_has_died() {
    let mut daemon = Daemon::start();
    let connection = connect(&daemon.socket());
    let closing = Closing::of(&connection);
    assert!(connection.is_alive().unwrap());
    daemon.kill();
    assert_eq!(closing.reason(&connection), VIR_CONNECT_CLOSE_REASON_EOF);
    assert!(!connection.is_alive().unwrap());
}

#[test]
fn keepalive_pings_a_daemon_that_answers_and_gives_up_on_one_that_does_not() {
    let mut daemon = Daemon::start();
    let line = Line::to(&daemon.socket());
    let connection = connect(&line.socket());
    let closing = Closing::of(&connection);

    // A ping each second. The machine may stand still for some of them before the daemon is taken for dead.
    connection.set_keep_alive(1, 5).unwrap();
    for _ in 0..3 {
        line.pongs.recv_timeout(PATIENCE).expect("no ping is answered");
    }
    assert!(connection.is_alive().unwrap());
    assert_eq!(closing.reasons.try_recv().ok(), None);

    daemon.freeze();
    assert_eq!(closing.reason(&connection), VIR_CONNECT_CLOSE_REASON_KEEPALIVE);
    assert!(!connection.is_alive().unwrap());
    daemon.kill();
}
