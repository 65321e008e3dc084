//! The example of a libvirt daemon: its plain code, and the whole of it under the real `virsh`.
//!
//! `./test` installs `virsh` where it may; where there is none, the tests that need it say that they are skipped.

mod commands;
mod events;
mod keepalive;
mod load;
/// What a domain is, from the example itself: its tests run as these.
#[path = "../../../examples/libvirt_daemon/model/mod.rs"]
#[allow(dead_code)]
mod model;
mod relay;
mod virsh;
mod wire;
