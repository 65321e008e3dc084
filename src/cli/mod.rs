//! The command line.
//!
//! Only this module and what it holds read arguments, files and the environment. Results go to standard output,
//! messages to standard error. Exit status: 0 done, 1 the service answered with an error, 2 bad usage, bad
//! configuration or no connection; `serve` also 3 (stopped with calls cut) and 130 (ended by a second signal).

mod address;
mod bench;
mod call;
mod directory;
mod exit;
mod json;
mod list;
mod logging;
mod memory;
mod remote;
mod serve;
mod stats;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use exit::{Exit, explain, print};
pub(crate) use memory::give_back_when_quiet;
use remote::Remote;
use serve::ServeArgs;
pub(crate) use serve::service_from_args;

/// A local daemon: clients connect over Unix or TCP sockets, handler actors answer their calls.
///
/// Without a command it serves: the built-in programs, on the default socket.
#[derive(Debug, Parser)]
#[command(name = "postroom", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Example: postroom serve --listen unix:/tmp/postroom.sock --log debug")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the service.
    #[command(after_help = "Example: postroom serve --listen unix:/tmp/postroom.sock --listen tcp:127.0.0.1:7000")]
    Serve(ServeArgs),
    /// Makes one call and prints the reply as JSON.
    #[command(disable_help_flag = true)]
    #[command(after_help = "Example: postroom call --deadline 500ms echo.echo '{\"id\": 1, \"data\": \"hello\"}'")]
    Call(call::CallArgs),
    /// Lists programs, versions and procedures, and how each runs.
    #[command(after_help = "Example: postroom list --to tcp:127.0.0.1:7000 --json")]
    List(list::ListArgs),
    /// Prints the events of a service as they come: one line of JSON each, with how many were lost before it.
    #[command(after_help = "Example: postroom watch directory.clients --count 10")]
    Watch(watch::WatchArgs),
    /// Puts load on a service; prints throughput and a latency histogram.
    #[command(after_help = "Example: postroom bench --connections 16 --depth 16 --duration 5s")]
    Bench(bench::BenchArgs),
    /// Prints the effective configuration, every key with its meaning.
    #[command(after_help = "Example: postroom config > postroom.toml")]
    Config(ServeArgs),
    /// Prints a script that completes commands and options in a shell.
    #[command(after_help = "Example: postroom completions bash > /etc/bash_completion.d/postroom")]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Prints the manual page.
    #[command(after_help = "Example: postroom man > /usr/share/man/man1/postroom.1")]
    Man,
}

/// Where a service is that was not told where to listen, and where a client finds it: `$POSTROOM_ADDRESS`, or the socket
/// `postroom/postroom.sock` below `$XDG_RUNTIME_DIR`, or below `/run` for root.
///
/// # Errors
///
/// When there is none, since `XDG_RUNTIME_DIR` is not set.
pub fn default_address() -> crate::Result<crate::Address> {
    address::default("POSTROOM_ADDRESS=unix:PATH")
}

/// Runs the binary `postroom` and ends the process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::serve(args),
        Command::Config(args) => serve::config(&args),
        Command::Call(args) if args.is_plain_help() => call_help(),
        Command::Call(args) => remote::run(call::call(args)),
        Command::List(args) => remote::run(list::list(args)),
        Command::Watch(args) => remote::run(watch::watch(args)),
        Command::Bench(args) => bench::bench(args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "postroom", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Man => man(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            eprintln!("error: {}", exit.text);
            ExitCode::from(exit.status)
        }
    }
}

fn call_help() -> Result<(), Exit> {
    let mut cli = Cli::command();
    cli.build();
    // The command is defined above.
    match cli.find_subcommand_mut("call") {
        Some(call) => print(&call.render_long_help().to_string()),
        None => Ok(()),
    }
}

/// The manual page of the binary and, behind it, those of its commands.
fn man() -> Result<(), Exit> {
    let mut cli = Cli::command();
    cli.build();
    let mut page = Vec::new();
    let failed = |error: std::io::Error| Exit::usage(error.to_string());
    clap_mangen::Man::new(cli.clone()).render(&mut page).map_err(failed)?;
    for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
        clap_mangen::Man::new(command.clone())
            .title(format!("postroom {}", command.get_name()))
            .render(&mut page)
            .map_err(failed)?;
    }
    print(&String::from_utf8_lossy(&page))
}
