//! A service beside libvirt: both wait on Postroom's loop. Calls stop and start domains, and every event is printed.
//!
//! ```text
//! cargo run --example domain_events -- unix:/tmp/domains &                     # with libvirt's test driver
//! postroom call --to unix:/tmp/domains domains.stop '{"name": "test"}'
//! postroom call --to unix:/tmp/domains domains.start '{"name": "test"}'
//! cargo run --example domain_events -- unix:/tmp/domains qemu:///session      # with a real one
//! ```

use std::ffi::{CStr, c_int, c_void};
use std::{mem, ptr, thread};

use actix::prelude::*;
use postroom::{Call, Config, Error, Program, Service};
use postroom_libvirt::event_loop::EventLoop;
use serde::{Deserialize, Serialize};
use virt::connect::Connect;
use virt::domain::Domain;
use virt_sys::*;

#[derive(Deserialize, Message)]
#[rtype(result = "Result<Done, Error>")]
struct Start {
    name: String,
}

#[derive(Deserialize, Message)]
#[rtype(result = "Result<Done, Error>")]
struct Stop {
    name: String,
}

#[derive(Serialize)]
struct Done {}

/// Calls of libvirt block, so they run on the workers of the service; a connection may be shared between threads.
struct Domains(Connect);

impl Domains {
    fn with(&self, name: &str, act: impl FnOnce(Domain) -> Result<(), virt::error::Error>) -> Result<Done, Error> {
        let outcome = self.0.lookup_domain_by_name(name).and_then(act);
        outcome.map(|()| Done {}).map_err(|error| Error::failed(format!("domain {name:?}: {error}")))
    }
}

impl Actor for Domains {
    type Context = Context<Self>;
}

impl Handler<Call<Start>> for Domains {
    type Result = Result<Done, Error>;

    fn handle(&mut self, call: Call<Start>, _: &mut Self::Context) -> Self::Result {
        self.with(&call.args.name, |domain| domain.create().map(drop))
    }
}

impl Handler<Call<Stop>> for Domains {
    type Result = Result<Done, Error>;

    fn handle(&mut self, call: Call<Stop>, _: &mut Self::Context) -> Self::Result {
        self.with(&call.args.name, |domain| domain.destroy())
    }
}

/// The type of lifecycle events' callbacks. It runs on the loop's thread, and must neither block nor panic.
type OnLifecycle = unsafe extern "C" fn(virConnectPtr, virDomainPtr, c_int, c_int, *mut c_void);

unsafe extern "C" fn on_lifecycle(_: virConnectPtr, domain: virDomainPtr, event: c_int, _: c_int, _: *mut c_void) {
    // SAFETY: libvirt gives a domain with its name for the length of the call.
    let name = unsafe { CStr::from_ptr(virDomainGetName(domain)) }.to_string_lossy();
    let what = match event as u32 {
        VIR_DOMAIN_EVENT_DEFINED => "defined",
        VIR_DOMAIN_EVENT_UNDEFINED => "undefined",
        VIR_DOMAIN_EVENT_STARTED => "started",
        VIR_DOMAIN_EVENT_SUSPENDED => "suspended",
        VIR_DOMAIN_EVENT_RESUMED => "resumed",
        VIR_DOMAIN_EVENT_STOPPED => "stopped",
        VIR_DOMAIN_EVENT_SHUTDOWN => "shut down",
        _ => "changed",
    };
    println!("{name}: {what}");
}

/// Registers for the lifecycle events of all domains. Returns the registration's number.
fn watch_domains(connection: &Connect) -> Result<c_int, virt::error::Error> {
    // SAFETY: libvirt has one callback type for all events and calls each as the type that it is for; this one is for
    // lifecycle events. It needs no `opaque`, and so nothing is to be freed.
    let id = unsafe {
        let callback =
            mem::transmute::<OnLifecycle, unsafe extern "C" fn(virConnectPtr, virDomainPtr, *mut c_void)>(on_lifecycle);
        let event = VIR_DOMAIN_EVENT_ID_LIFECYCLE as c_int;
        let (all, opaque) = (ptr::null_mut(), ptr::null_mut());
        virConnectDomainEventRegisterAny(connection.as_ptr(), all, event, Some(callback), opaque, None)
    };
    if id < 0 { Err(virt::error::Error::last_error()) } else { Ok(id) }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("usage: domain_events ADDR [URI]")?;
    let uri = arguments.next().unwrap_or_else(|| "test:///default".to_owned());

    // First the loop, then the connections.
    let (events, mut driver) = EventLoop::new()?;
    let _registration = postroom_libvirt::register(&events)?;
    let looping = thread::spawn(move || driver.run());

    let connection = Connect::open(Some(&uri))?;
    let id = watch_domains(&connection)?;

    let for_workers = connection.clone();
    let domains = Program::new("domains", 0x646f_6d73, 1)
        .handler(move || Domains(for_workers.clone()))
        .procedure::<Start>(1, "start")
        .procedure::<Stop>(2, "stop");
    let config = Config { listen: vec![address.parse()?], ..Config::default() };
    Service::new(config).program(domains).run()?; // Until SIGTERM or Ctrl-C.

    // First the connections, then the loop.
    // SAFETY: the connection is open, and the number is of this registration.
    unsafe { virConnectDomainEventDeregisterAny(connection.as_ptr(), id) };
    drop(connection);
    events.stop();
    looping.join().map_err(|_| "the loop panicked")??;
    Ok(())
}
