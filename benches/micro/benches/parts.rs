//! How long each part of a call's way takes: `cargo bench --manifest-path benches/micro/Cargo.toml`.

use std::cell::RefCell;

use divan::Bencher;
use divan::counter::ItemsCount;
use postroom_bench_micro::{Part, protocol, rounds};

fn main() {
    divan::main();
}

/// Bytes to packets, packets to values, and back.
#[divan::bench(args = protocol::PARTS)]
fn of_the_protocol(bencher: Bencher, part: &Part) {
    let mut body = (part.body)();
    bencher.counter(ItemsCount::new(part.units)).bench_local(|| body.run());
}

/// What threads do; what belongs to a round is made ready for it alone, so a sample is one round.
#[divan::bench(args = rounds::PARTS, sample_size = 1, sample_count = 2000)]
fn of_the_threads(bencher: Bencher, part: &Part) {
    let body = RefCell::new((part.body)());
    let make_ready = || {
        body.borrow_mut().after();
        body.borrow_mut().before();
    };
    bencher
        .counter(ItemsCount::new(part.units))
        .with_inputs(make_ready)
        .bench_local_values(|()| body.borrow_mut().run());
}
