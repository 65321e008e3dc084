//! Postroom's client and service against tarpc and against a bare echo: calls a second, latency, processor time.
//!
//! `cargo run --release` prints one Markdown table, in about two and a half minutes, and on a machine that others use in
//! up to three times that. `ROUNDS=1` in the environment makes it a third.
//!
//! Two processes and a Unix socket: this one is the client, on one thread, and starts itself anew as
//! `server NAME PATH` for each measurement. The load is closed: CONNECTIONS × DEPTH slots, each a task that makes the
//! next call, one future, when the last one is answered. A call takes a number and 32 bytes and gives them back.
//! All contenders are measured in turns within one run, several rounds each, and the median counts, because on a machine
//! that others use only ratios mean something. A measurement during which others used the processors is repeated, up to
//! twice, and one that stays disturbed is counted in the last column.
//!
//! Everybody does what they do by default: tarpc gives each call a deadline of 10 s and a trace, Postroom neither. With
//! tarpc it is the user who decides where handlers run, so it comes in six set-ups, and the best one at each shape is
//! what ratios are to.

mod contender;
mod load;
mod measure;
mod server;
mod table;
mod usage;

use std::error::Error;

use contender::Contender;
use measure::measure;
use table::Table;

/// What goes wrong, in tasks too.
type Failure = Box<dyn Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

const ROUNDS: usize = 3;
/// The first two are what is compared, the others for information.
const SHAPES: [Shape; 4] = [Shape::new(1, 64), Shape::new(16, 16), Shape::new(1, 1), Shape::new(256, 1)];

/// How many calls are under way, and on how many connections.
#[derive(Clone, Copy, PartialEq)]
struct Shape {
    connections: usize,
    /// Calls at once on each connection.
    depth: usize,
}

impl Shape {
    const fn new(connections: usize, depth: usize) -> Self {
        Self { connections, depth }
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(),
        ["server", name, path] => server::run(Contender::by_name(name)?, path.as_ref()),
        _ => Err("there are no arguments; the environment may say ROUNDS=N".into()),
    }
}

fn compare() -> Result<()> {
    let n_rounds = match std::env::var("ROUNDS") {
        Ok(rounds) => match rounds.parse() {
            Ok(rounds @ 1..) => rounds,
            _ => return Err(format!("ROUNDS={rounds}: it is a number from 1").into()),
        },
        Err(_) => ROUNDS,
    };
    let folder = tempfile::tempdir()?;
    let mut table = Table::default();
    for shape in SHAPES {
        for round in 1..=n_rounds {
            eprintln!("{}×{}, round {round} of {n_rounds}", shape.connections, shape.depth);
            for contender in Contender::ALL {
                let path = folder.path().join("socket");
                let measured = measure(contender, shape, &path).map_err(|error| {
                    format!("{} at {}×{}: {error}", contender.name(), shape.connections, shape.depth)
                })?;
                table.add(shape, contender, measured);
            }
        }
    }
    print!("{table}");
    Ok(())
}
