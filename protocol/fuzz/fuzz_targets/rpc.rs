//! Run with `cargo fuzz run rpc`; the body is in `tests/support/fuzz_bodies.rs`.

#![no_main]

#[path = "../../tests/support/fuzz_bodies.rs"]
#[allow(dead_code, reason = "each target runs one of the bodies")]
mod fuzz_bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_bodies::rpc(data));
