//! libvirt on Postroom's loop. A registration is for the whole process, so all of these share one loop, which runs on a
//! thread of its own; what needs a process of its own is in the other files of this folder.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod daemon;
mod domain_events;
mod example;
mod handles;
mod registration;
mod streams;
mod support;
mod timers;
