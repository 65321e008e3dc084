//! The service with its program `echo`, which says at its end how often it has asked for memory. `benches/counts` runs
//! it in the place of `postroom serve`, from which it differs in nothing else: `service unix:PATH`.

use std::process::ExitCode;

use postroom::{Address, Config, Service};
use postroom_bench_micro::allocations;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

fn main() -> ExitCode {
    let address = std::env::args().nth(1).and_then(|address| address.parse::<Address>().ok());
    let Some(address) = address else {
        eprintln!("usage: service ADDRESS");
        return ExitCode::from(2);
    };
    if let Err(failure) = Service::new(Config { listen: vec![address], ..Config::default() }).run() {
        eprintln!("{failure}");
        return ExitCode::FAILURE;
    }
    println!("{} {}", allocations::count(), allocations::bytes());
    ExitCode::SUCCESS
}
