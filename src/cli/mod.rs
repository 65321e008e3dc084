//! The command line.
//!
//! Only this module and what it holds read arguments, files and the environment. Results go to standard output,
//! messages to standard error. Exit status: 0 done, 2 bad usage or configuration; `serve` also 3 (stopped with calls
//! cut) and 130 (ended by a second signal).

mod address;
mod logging;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use postroom_actors::Address;

use crate::config::{Config, file};
use crate::service::{Failure, Result, Service};

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
    /// Prints the effective configuration, every key with its meaning.
    #[command(after_help = "Example: postroom config > postroom.toml")]
    Config(ServeArgs),
}

/// How a service is configured.
#[derive(Debug, Args)]
struct ServeArgs {
    /// The configuration file; `postroom config` prints one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, instead of where the file says: unix:PATH, unix:@ABSTRACT or tcp:HOST:PORT. Can be repeated.
    #[arg(long, value_name = "ADDR")]
    listen: Vec<Address>,
    /// What to log: error, warn, info, debug or trace, also for single modules (info,postroom_actors::reader=debug).
    #[arg(long, value_name = "FILTER", env = "POSTROOM_LOG", default_value = "info")]
    log: String,
}

/// The same for a service that somebody else's program is.
#[derive(Debug, Parser)]
#[command(about = "A Postroom service.")]
struct ServiceCli {
    #[command(flatten)]
    serve: ServeArgs,
}

/// Runs the binary `postroom` and ends the process.
pub fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => serve(cli.serve),
        Some(Command::Serve(args)) => serve(args),
        Some(Command::Config(args)) => configure(&args).map(|(config, _)| print!("{}", file::print(&config))),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            std::process::ExitCode::from(2)
        }
    }
}

fn serve(args: ServeArgs) -> Result<()> {
    service(&args)?.run()
}

/// The service that the arguments of this process ask for.
pub(crate) fn service_from_args() -> Result<Service> {
    let cli = ServiceCli::parse();
    let own_name = std::env::args_os().next().map(PathBuf::from);
    let own_name = own_name.and_then(|path| path.file_name().map(OsString::from));
    let service = service(&cli.serve)?;
    Ok(match own_name.as_deref().and_then(|name| name.to_str()) {
        Some(name) => service.name(name, ""),
        None => service,
    })
}

fn service(args: &ServeArgs) -> Result<Service> {
    logging::init(&args.log).map_err(|error| Failure::new(format!("--log {:?}: {error}", args.log)))?;
    let (config, is_default) = configure(args)?;
    address::prepare_default(&config.listen)?;
    Ok(Service::new(config).for_process(hint(is_default)))
}

/// The configuration, and whether it listens at the default address.
fn configure(args: &ServeArgs) -> Result<(Config, bool)> {
    let mut config = match &args.config {
        None => Config::default(),
        Some(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::new(format!("--config {name}: cannot be read: {error}")))?;
            file::parse(&name, &text).map_err(|errors| Failure::new(errors.to_string()))?
        }
    };
    if !args.listen.is_empty() {
        config.listen.clone_from(&args.listen);
    }
    let is_default = config.listen.is_empty();
    if is_default {
        config.listen.push(address::default()?);
    }
    Ok((config, is_default))
}

/// What to type next, for somebody who has just started it to see what it is.
fn hint(is_default: bool) -> String {
    if !is_default || !std::io::stderr().is_terminal() {
        return String::new();
    }
    "\nTry it from another terminal, in the project's folder (it needs `pip install msgpack`):\n\
     \n    python3 examples/client.py directory.describe\
     \n    python3 examples/client.py echo.mirror '{\"hello\": [1, 2, 3]}'\n\
     \nStop it with Ctrl-C.\n"
        .to_owned()
}
