//! Counts what the parts of a call's way take: allocations and looks at the clock by itself, instructions under
//! callgrind. `benches/compare` runs it and makes tables of it.
//!
//! `parts --list` prints the name of each part and for how many calls, packets or values one round of it is;
//! `parts PART ROUNDS` runs that many rounds after as many to warm up, and prints how many allocations they made and
//! how often they looked at the clock. Callgrind counts what happens in [`postroom_counted`], with
//! `--toggle-collect=postroom_counted`.
//!
//! The clock goes on a little each time that somebody looks at it, and else stands still: deadlines and estimates are
//! the same in each run, and however slow callgrind is, every call is as quick as it is to the service.

mod clock;

use std::process::ExitCode;

use postroom_bench_micro::{Body, Part, all, allocations};

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => {
            all().for_each(|Part { name, units, .. }| println!("{name}\t{units}"));
            ExitCode::SUCCESS
        }
        [name, rounds] => match (all().find(|part| part.name == name), rounds.parse()) {
            (Some(part), Ok(rounds)) => count(&part, rounds),
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: parts --list | parts PART ROUNDS");
    ExitCode::from(2)
}

fn count(part: &Part, rounds: u64) -> ExitCode {
    let mut body = (part.body)();
    for _ in 0..rounds {
        body.before();
        body.run();
        body.after();
    }
    let (mut allocations, mut looks) = (0, 0);
    for _ in 0..rounds {
        body.before();
        let before = (allocations::count(), clock::looks());
        postroom_counted(&mut *body);
        allocations += allocations::count() - before.0;
        looks += clock::looks() - before.1;
        if !body.after() {
            eprintln!("{part}: what is to be counted happened elsewhere");
            return ExitCode::FAILURE;
        }
    }
    println!("{allocations} {looks}");
    ExitCode::SUCCESS
}

/// What is counted. It has a name that callgrind can be told.
#[unsafe(no_mangle)]
#[inline(never)]
fn postroom_counted(body: &mut dyn Body) {
    body.run();
}
