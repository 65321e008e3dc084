//! Postroom beside its peers, measured in one run.
//!
//! ```text
//! cargo build --release
//! cargo run --release --manifest-path benches/field/Cargo.toml -- --out docs/performance
//! ```
//!
//! prints Markdown, and writes it with JSON and figures into the folder. `--quick` tries it out in two minutes,
//! `--peers` and `--cases` choose, `--list` says what there is.
//!
//! Client and server are a process each, of this program where it can be: it starts itself anew as `server` and as
//! `client`. A run has a fresh server, a warm-up and a time that counts. Peers come in turns, several rounds each, and
//! medians count, because on a machine that others use only ratios within a run mean something. A run during which others
//! used the processors is repeated, within bounds; how long all of it takes is told at the beginning.
//!
//! - [`case`], [`peer`]: what is measured, and who.
//! - [`load`], [`usage`]: what a client does and counts.
//! - [`process`], [`measure`], [`repeats`], [`interleave`]: how runs are made.
//! - [`scale`], [`embedded`]: how cost grows, by `scale` on the command line.
//! - [`isolation`]: who is held up when handlers block, by `isolation` on the command line.
//! - [`summary`], [`floors`], [`figures`], [`machine`], [`output`]: what is told of them.

mod case;
mod embedded;
mod figures;
mod floors;
mod interleave;
mod isolation;
mod load;
mod machine;
mod measure;
mod output;
mod peer;
mod process;
mod repeats;
mod scale;
mod summary;
mod usage;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand};
use regex_lite::Regex;

use case::Case;
use load::Plan;
use machine::Machine;
use measure::Settings;
use peer::{Family, Peer};
use summary::Summary;

/// What goes wrong, in tasks too.
pub type Failure = Box<dyn Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Failure>;

/// Measures Postroom beside its peers
#[derive(Parser)]
struct Args {
    /// Postroom's program [default: target/release/postroom of this workspace]
    #[arg(long, value_name = "FILE", global = true)]
    postroom: Option<PathBuf>,
    /// Only peers whose name matches; with `isolation`, rows of its table
    #[arg(long, value_name = "REGEX", default_value = "", global = true)]
    peers: Regex,
    /// Only cases whose name matches; `.` is all of them [default: what floors and goals are about, and one call at a time]
    #[arg(long, value_name = "REGEX")]
    cases: Option<Regex>,
    /// Only one call at a time, with client and server on one core
    #[arg(long)]
    one_core: bool,
    /// Rounds, whose medians count [default: 3; with --quick 1]
    #[arg(long, value_name = "N", global = true, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// How long each run counts [default: 500ms; with --quick 200ms]
    #[arg(long, value_name = "TIME", global = true, value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    /// How long each run warms up [default: 200ms; with --quick 100ms]
    #[arg(long, value_name = "TIME", global = true, value_parser = humantime::parse_duration)]
    warm_up: Option<Duration>,
    /// All once and for a moment: whether it works, not what it costs
    #[arg(long, global = true)]
    quick: bool,
    /// Where to write JSON, Markdown and figures; Markdown is printed at any rate
    #[arg(long, value_name = "FOLDER", global = true)]
    out: Option<PathBuf>,
    /// Tells the names of peers and cases
    #[arg(long)]
    list: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// How cost grows with clients, programs, workers and calls that wait
    Scale,
    /// Who is held up when handlers block
    Isolation,
    /// The server of a peer; this program starts itself so
    #[command(hide = true)]
    Server { peer: String, path: PathBuf, address: String },
    /// A service of Postroom inside this program; this program starts itself so
    #[command(hide = true)]
    Embedded { kind: String, n: usize, path: PathBuf },
    /// The client of a peer; this program starts itself so
    #[command(hide = true)]
    Client { peer: String, case: Case, address: String, servers: String, warm_up_ms: u64, time_ms: u64 },
}

impl Args {
    fn settings(&self) -> Settings {
        let millis = |given: Option<Duration>, quick, usual| {
            given.unwrap_or(Duration::from_millis(if self.quick { quick } else { usual }))
        };
        Settings {
            postroom: self.postroom.clone().unwrap_or_else(built),
            warm_up: millis(self.warm_up, 100, 200),
            time: millis(self.time, 200, 500),
        }
    }

    fn n_rounds(&self) -> usize {
        self.rounds.map_or(if self.quick { 1 } else { 3 }, usize::from)
    }
}

/// Where a release build of this workspace puts the program.
fn built() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    target.unwrap_or_else(|| workspace.join("target")).join("release/postroom")
}

fn main() -> Result<()> {
    let args = Args::parse();
    process::raise_descriptor_limit();
    match &args.command {
        None if args.list => list(),
        None => field(&args),
        Some(Command::Scale) => scale::run(&args),
        Some(Command::Isolation) => isolation::run(&args),
        Some(Command::Embedded { kind, n, path }) => embedded::serve(embedded::Kind::by_name(kind)?, *n, path),
        Some(Command::Server { peer, path, address }) => Peer::by_name(peer)?.serve(path, address),
        Some(Command::Client { peer, case, address, servers, warm_up_ms, time_ms }) => {
            load::limit_time();
            let plan = Plan {
                case: *case,
                address: address.clone(),
                servers: servers.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?,
                warm_up: Duration::from_millis(*warm_up_ms),
                time: Duration::from_millis(*time_ms),
            };
            let outcome = Peer::by_name(peer)?.call(&plan)?;
            println!("{}", serde_json::to_string(&outcome)?);
            // Its connections and tasks end with it.
            std::process::exit(0);
        }
    }
}

fn list() -> Result<()> {
    for peer in Peer::all() {
        println!("{:26} {}", peer.name, peer.missing().unwrap_or_default());
    }
    let usual = Case::usual();
    for case in Case::all() {
        let told = if usual.contains(&case) { "" } else { "only if asked for" };
        println!("{:26} {told}", case.to_string());
    }
    Ok(())
}

fn field(args: &Args) -> Result<()> {
    let settings = args.settings();
    let cases: Vec<Case> = match &args.cases {
        None if args.one_core => Case::one_core(),
        None => Case::usual(),
        Some(regex) => {
            let all = if args.one_core { Case::one_core() } else { Case::all() };
            all.into_iter().filter(|case| regex.is_match(&case.to_string())).collect()
        }
    };
    let (mut peers, mut left_out) = (Vec::new(), Vec::new());
    for peer in Peer::all().iter().filter(|peer| args.peers.is_match(peer.name)) {
        match peer.missing() {
            None => peers.push(*peer),
            Some(missing) => left_out.push(format!("{}: {missing}", peer.name)),
        }
    }
    if peers.is_empty() || cases.is_empty() {
        return Err("no peer and no case has such a name; --list tells all".into());
    }
    if peers.iter().any(|peer| peer.family == Family::Postroom) {
        need_postroom(&settings.postroom)?;
    }
    for line in &left_out {
        eprintln!("left out: {line}");
    }
    let machine = Machine::here(&settings.postroom);
    let runs = interleave::interleave(&peers, &cases, args.n_rounds(), &settings)?;
    let summary = Summary(&runs);
    let report = output::markdown::Report {
        machine: &machine,
        settings: &settings,
        n_rounds: args.n_rounds(),
        left_out: &left_out,
        cases: &cases,
        summary,
    };
    let text = report.text();
    print!("{text}");
    if let Some(folder) = &args.out {
        let many = Case::Load(case::Shape::new(16, 16, 32));
        let mut files = vec![("field.md", text), ("field.json", output::json::report(&machine, &left_out, &runs)?)];
        let figures = [
            ("throughput.svg", figures::throughput(&cases, summary)),
            ("latency.svg", figures::latency(many, summary)),
            ("memory.svg", figures::memory(Case::IDLE, summary)),
        ];
        files.extend(figures.into_iter().filter_map(|(name, figure)| Some((name, figure?))));
        output::write(folder, &files)?;
    }
    Ok(())
}

fn need_postroom(file: &Path) -> Result<()> {
    if file.is_file() {
        return Ok(());
    }
    let text = "is not there; build it with `cargo build --release` or say --postroom FILE";
    Err(format!("{} {text}", file.display()).into())
}
