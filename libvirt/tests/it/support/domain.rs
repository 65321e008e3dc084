//! Domains of the test driver, and their lifecycle events.

use std::ffi::{CStr, c_int, c_void};
use std::mem::transmute;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, ThreadId};

use virt::connect::Connect;
use virt::domain::Domain;
use virt_sys::*;

use super::PATIENCE;

/// A domain of the test driver, defined and not running.
pub fn domain(connection: &Connect, name: &str) -> Domain {
    let xml = format!(
        "<domain type='test'><name>{name}</name><memory unit='MiB'>8</memory><os><type>hvm</type></os></domain>"
    );
    connection.define_domain_xml(&xml).unwrap()
}

/// A lifecycle event: of which domain, what, and on which thread.
type Event = (String, u32, ThreadId);

type Action = Box<dyn FnMut(c_int) + Send>;

struct Told {
    id: c_int,
    events: Sender<Event>,
    action: Action,
    freed: Sender<ThreadId>,
}

/// A registration for the lifecycle events of one domain.
pub struct Lifecycle {
    pub id: c_int,
    pub events: Receiver<Event>,
    /// On which threads it was freed.
    pub freed: Receiver<ThreadId>,
}

impl Lifecycle {
    /// Registers; every event does this with the registration's number.
    pub fn of(connection: &Connect, domain: &Domain, action: impl FnMut(c_int) + Send + 'static) -> Lifecycle {
        let ((sender, events), (freed_sender, freed)) = (mpsc::channel(), mpsc::channel());
        let told = Box::new(Told { id: -1, events: sender, action: Box::new(action), freed: freed_sender });
        let told = Box::into_raw(told);
        let callback: unsafe extern "C" fn(virConnectPtr, virDomainPtr, c_int, c_int, *mut c_void) = on_event;
        // SAFETY: the callback has the type that lifecycle events have, and takes over `told`, which nothing looks into
        // before the first event, and that is caused by this thread only.
        let id = unsafe {
            let callback = transmute::<
                unsafe extern "C" fn(virConnectPtr, virDomainPtr, c_int, c_int, *mut c_void),
                unsafe extern "C" fn(virConnectPtr, virDomainPtr, *mut c_void),
            >(callback);
            let id = virConnectDomainEventRegisterAny(
                connection.as_ptr(),
                domain.as_ptr(),
                VIR_DOMAIN_EVENT_ID_LIFECYCLE as c_int,
                Some(callback),
                told.cast(),
                Some(on_free),
            );
            (*told).id = id;
            id
        };
        assert!(id >= 0);
        Lifecycle { id, events, freed }
    }

    /// The next event.
    #[track_caller]
    pub fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("no event")
    }

    pub fn deregister(connection: &Connect, id: c_int) {
        // SAFETY: the connection is open.
        assert_eq!(unsafe { virConnectDomainEventDeregisterAny(connection.as_ptr(), id) }, 0);
    }
}

unsafe extern "C" fn on_event(_: virConnectPtr, domain: virDomainPtr, event: c_int, _: c_int, told: *mut c_void) {
    // SAFETY: libvirt gives a domain for the length of the call, and what was registered; events come one at a time.
    let (told, name) = unsafe { (&mut *told.cast::<Told>(), CStr::from_ptr(virDomainGetName(domain))) };
    (told.action)(told.id);
    told.events.send((name.to_str().unwrap().to_owned(), event as u32, thread::current().id())).ok();
}

unsafe extern "C" fn on_free(told: *mut c_void) {
    // SAFETY: it was made by `Box::into_raw`, and libvirt frees it once.
    let told = unsafe { Box::from_raw(told.cast::<Told>()) };
    told.freed.send(thread::current().id()).ok();
}
