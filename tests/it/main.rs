//! The integration tests: one binary, a module for each topic, everything over real sockets.
//!
//! Each test starts its own service, in this process or as a process of its own, on a socket in a folder of its own,
//! and stops it. Handlers under test wait at gates that the test opens; nothing sleeps to let something happen.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod support;

mod binary;
mod calls;
mod codecs;
mod command_line;
mod descriptors;
mod ending;
mod events;
mod examples;
mod half_close;
mod hostile;
mod identity;
mod idle;
mod keepalive;
mod libvirt_daemon;
mod limits;
mod listening;
mod message_pack_rpc;
mod overload;
mod panics;
mod pool;
mod python_client;
mod reconnecting;
mod regressions;
mod remote;
mod rpc_clients;
mod stats;
mod subscriptions;
mod supervision;
mod testing_kit;
mod timeouts;
mod way_of_a_call;
mod wire;
