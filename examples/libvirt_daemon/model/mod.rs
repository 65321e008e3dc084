//! What a domain is and what may be done to it: plain code, without actors, sockets or clock.
//!
//! [`definition`] reads and writes the XML, [`machine`] is the state machine of one domain, [`inventory`] the index of
//! all of them, [`watches`] who wants to be told of them, [`fault`] what goes wrong, with libvirt's numbers and in libvirt's words. The numbers of states, events
//! and errors are those of libvirt's public headers.

pub mod definition;
pub mod fault;
pub mod inventory;
pub mod machine;
pub mod memory;
pub mod uuid;
pub mod watches;
