//! `postroom serve` and `postroom config`: from arguments, environment and file to a service.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::{Args, Parser};
use postroom_actors::Address;

use super::{Exit, address, logging, memory};
use crate::config::{Config, file};
use crate::service::{Failure, Service};

/// How a service is configured.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// The configuration file; `postroom config` prints one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, instead of where the file says: unix:PATH, unix:@ABSTRACT or tcp:HOST:PORT. Can be repeated.
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
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

/// Runs the service until it is stopped.
pub(super) fn serve(args: ServeArgs) -> Result<(), Exit> {
    Ok(service(&args)?.run()?)
}

/// Prints the configuration.
pub(super) fn config(args: &ServeArgs) -> Result<(), Exit> {
    let (config, _) = configure(args)?;
    super::print(&file::print(&config))
}

/// The service that the arguments of this process ask for.
pub(crate) fn service_from_args() -> Result<Service, Failure> {
    let cli = ServiceCli::parse();
    let own_name = std::env::args_os().next().map(PathBuf::from);
    let own_name = own_name.and_then(|path| path.file_name().map(OsString::from));
    let service = service(&cli.serve)?;
    Ok(match own_name.as_deref().and_then(|name| name.to_str()) {
        Some(name) => service.name(name, ""),
        None => service,
    })
}

fn service(args: &ServeArgs) -> Result<Service, Failure> {
    memory::keep_freed_pages();
    logging::init(&args.log).map_err(|error| {
        // What was given twice is wrong in both places.
        let is_environments = std::env::var("POSTROOM_LOG").is_ok_and(|filter| filter == args.log);
        let origin = if is_environments { "POSTROOM_LOG=" } else { "--log " };
        Failure::new(format!("{origin}{:?}: {error}", args.log))
    })?;
    let (config, is_default) = configure(args)?;
    address::prepare_default(&config)?;
    Ok(Service::new(config).for_process(hint(is_default)))
}

/// The configuration, and whether it listens at the default address. Everything that is wrong with the file and with
/// the addresses of the command line is told at once.
fn configure(args: &ServeArgs) -> Result<(Config, bool), Failure> {
    let mut faults = Vec::new();
    let mut listen: Vec<Address> = Vec::new();
    for text in &args.listen {
        match text.parse() {
            Ok(address) => listen.push(address),
            Err(error) => faults.push(format!("--listen: {error}")),
        }
    }
    let config = args.config.as_deref().map(read).transpose().map_err(|error| faults.push(error.to_string()));
    let (Ok(config), true) = (config, faults.is_empty()) else {
        return Err(Failure::new(faults.join("\n")));
    };
    let mut config = config.unwrap_or_default();
    if !listen.is_empty() {
        config.listen = listen;
    }
    let is_default = config.listen.is_empty();
    if is_default {
        config.listen.push(address::default("--listen unix:PATH")?);
    }
    // As it will take effect: a limit that was left alone follows one that was set.
    config.limits = config.limits.settled().map_err(|errors| Failure::new(errors.to_string()))?;
    Ok((config, is_default))
}

fn read(path: &Path) -> Result<Config, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("--config {name}: cannot be read: {error}")))?;
    file::parse(&name, &text).map_err(|errors| Failure::new(errors.to_string()))
}

/// What to type next, for somebody who has just started it to see what it is.
fn hint(is_default: bool) -> String {
    if !is_default || !std::io::stderr().is_terminal() {
        return String::new();
    }
    "\nTry it from another terminal:\n\
     \n    postroom list\
     \n    postroom call echo.mirror '{\"hello\": [1, 2, 3]}'\
     \n    postroom bench --connections 16 --depth 16\n\
     \nStop it with Ctrl-C.\n"
        .to_owned()
}
