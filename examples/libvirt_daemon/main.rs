//! A libvirt daemon: real `virsh`, and whatever else is built on libvirt's library, works with its made-up domains.
//!
//! ```text
//! cargo run --release --example libvirt_daemon -- --listen unix:/tmp/libvirt.sock
//! virsh -c 'test+unix:///default?socket=/tmp/libvirt.sock' list --all
//! virsh -c 'qemu+unix:///system?socket=/tmp/libvirt.sock' event --all --loop
//! ```
//!
//! - [`remote`]: libvirt's remote program, its procedures by their numbers, with XDR payloads.
//! - [`domain`]: the actor of one domain.
//! - [`hypervisor`]: all domains, and the thread they live on.
//! - [`model`]: what a domain is and what may be done to it, in plain code.
//! - [`host`]: the host, made up too.
//!
//! docs/libvirt.md walks through it.

// The modules are those of a program: nobody else sees what is public in them.
#![allow(unreachable_pub)]

mod domain;
mod host;
mod hypervisor;
mod model;
mod remote;

use std::sync::Arc;

use hypervisor::Machinery;
use model::definition::Definition;
use model::inventory::Card;
use model::machine::Step;
use postroom::Service;
use remote::Registrations;

/// The domain that is there from the beginning, as the test driver has one.
const FIRST: &str = "<domain type='test'>
  <name>test</name>
  <uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid>
  <memory unit='KiB'>8388608</memory>
  <currentMemory unit='KiB'>2097152</currentMemory>
  <vcpu>2</vcpu>
  <os><type>hvm</type></os>
</domain>";

fn main() -> postroom::Result<()> {
    let service = Service::from_args()?.name("libvirt_daemon", env!("CARGO_PKG_VERSION"));
    let declaration = remote::declaration();
    let registrations = Arc::new(Registrations::new(declaration.publisher()));
    let tell = registrations.clone();
    let announce = move |card: &Card, step: Step| tell.announce(card, step);
    let (_machinery, hypervisor) =
        Machinery::start(Box::new(announce)).unwrap_or_else(|error| fail("the domains' thread", &error));
    if let Err(fault) = Definition::parse(FIRST).and_then(|first| hypervisor.start_with(first)) {
        fail("the first domain", &fault.message);
    }
    service.program(remote::program(declaration, hypervisor, registrations)).run()
}

/// Ends the process as it ends when it cannot listen.
fn fail(what: &str, why: &dyn std::fmt::Display) -> ! {
    eprintln!("error: {what} cannot be started: {why}");
    std::process::exit(2)
}
