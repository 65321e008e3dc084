//! What the tests have in common: a raw client, a service in this process, the binary as a process, gates.

mod binary;
mod client;
mod gate;
mod process;
mod program;
mod service;

use std::time::{Duration, Instant};

pub use binary::Binary;
pub use client::{Client, Packet, call, encode, header, map, notification, packet, parcel, pipe_with, request};
pub use gate::Gate;
pub use process::{Usage, own_binary_as_child};
pub use program::{BLOB, Blob, Shared, TEST, TICK, proc};
pub use service::TestService;

/// How long anything may take before a test gives up on it: so long that only what hangs does, however slow or busy the
/// machine is. No test waits that long for something that it expects not to come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The built-in program `echo`.
pub const ECHO: u32 = postroom::builtin::echo::NUMBER;
/// The built-in program `directory`.
pub const DIRECTORY: u32 = postroom::builtin::directory::NUMBER;

/// The procedures of `echo`.
#[allow(missing_docs)]
pub mod echo {
    pub const ECHO: i32 = 1;
    pub const MIRROR: i32 = 2;
    pub const SLEEP: i32 = 3;
    pub const BLOCK: i32 = 4;
    pub const FAIL: i32 = 5;
    pub const PANIC: i32 = 6;
    pub const HASH: i32 = 7;
    pub const WHOAMI: i32 = 8;
    pub const NAP: i32 = 9;
    pub const QUICK: i32 = 10;
}

/// Waits for what nobody can tell: asks again and again until it is so, and fails after [`PATIENCE`].
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The same for what comes with it.
pub fn eventually_some<T>(what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    let mut got = None;
    eventually(what, || {
        got = get();
        got.is_some()
    });
    got.unwrap()
}

/// A client that was let in: another one tries where the first packet was not there in time.
pub fn let_in(connect: impl Fn() -> Client) -> Client {
    eventually_some("a client has its first packet there in time", || {
        let mut client = connect();
        client.is_let_in().then_some(client)
    })
}

/// Waits for a stretch of so much time in which a process uses less processor time than this. Other tests and the
/// machine itself may spoil some stretches; of a process that spins there is none.
pub fn eventually_rests(usage: Usage, time: Duration, most: Duration) {
    eventually(&format!("it uses less than {most:?} of processor time in {time:?}"), || {
        let before = usage.cpu_time();
        // The time is what is measured.
        std::thread::sleep(time);
        let used = usage.cpu_time() - before;
        println!("{used:?} of processor time in {time:?}");
        used < most
    });
}

/// Small random numbers that are the same in each run (xorshift); a test prints its seed when it fails.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}
