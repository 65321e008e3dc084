//! A service: a configuration and programs, put together and run.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use postroom_actors::events::ClientEvents;
use postroom_actors::{Parts, Program, Report, StartError, UnixAccess, stats};
use tokio::signal::unix::{SignalKind, signal};

use crate::builtin;
use crate::config::Config;
use crate::running::Running;

/// What goes wrong when a service is run, in one line or more for a person.
///
/// Its `Debug` output is that text too, because that is what `fn main() -> postroom::Result<()>` prints.
pub struct Failure(String);

/// The result of running a service.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    #[cfg_attr(not(feature = "cli"), allow(dead_code))]
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self(error.to_string())
    }
}

/// A service that is not started yet.
#[derive(Debug)]
pub struct Service {
    config: Config,
    programs: Vec<Program>,
    name: String,
    version: String,
    /// Whether this service is the whole process, whose exit status tells how it ended.
    is_process: bool,
    /// What to tell on standard error once it listens.
    hint: Option<String>,
}

impl Service {
    /// A service with this configuration, the built-in programs and no others.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            programs: Vec::new(),
            name: "postroom".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            is_process: false,
            hint: None,
        }
    }

    /// Adds a program.
    ///
    /// What is wrong with a declaration (two procedures with one number, say) is told by [`Self::start`].
    #[must_use]
    pub fn program(mut self, program: impl Into<Program>) -> Self {
        self.programs.push(program.into());
        self
    }

    /// The name and the version by which the service introduces itself to clients (`directory.hello`).
    #[must_use]
    pub fn name(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.name = name.into();
        self.version = version.into();
        self
    }

    /// Starts the service on threads of its own and returns when it accepts clients.
    ///
    /// Stop it by [`Running::stop`], or by dropping the handle.
    ///
    /// # Errors
    ///
    /// When a program contradicts another, when it cannot listen at an address, when a thread cannot be started.
    pub fn start(self) -> std::result::Result<Running, StartError> {
        let Self { config, mut programs, name, version, .. } = self;
        let limits = config.limits.settled()?;
        if config.demo {
            programs.push(builtin::echo::program());
        }
        let stats = stats::Source::default();
        let directory = builtin::directory::Info::new(name, version, &limits, &programs, stats.clone());
        let directory = builtin::directory::program(Arc::new(directory));
        let clients = ClientEvents { publisher: directory.publisher(), event: builtin::directory::CLIENTS };
        programs.push(directory);
        programs.push(builtin::keepalive());
        let running = postroom_actors::Running::start(Parts {
            limits,
            addresses: config.listen,
            unix_access: UnixAccess { mode: config.unix_sock_perms, group: config.unix_sock_group },
            programs,
            stats,
            client_events: Some(clients),
        });
        running.map(Running::new)
    }

    /// Starts the service and waits until SIGTERM or SIGINT stops it; a second one ends the process at once, with
    /// status 130.
    ///
    /// A service that was made by [`Service::from_args`] is taken for the whole process: this returns only when it
    /// stopped with nothing cut, and else ends the process, with status 2 when it could not start and 3 when calls
    /// were cut by `shutdown_timeout`.
    ///
    /// # Errors
    ///
    /// As [`Self::start`]; and when signals cannot be waited for.
    pub fn run(self) -> Result<()> {
        let is_process = self.is_process;
        match self.run_to_report() {
            Ok(report) if is_process && !report.is_clean() => std::process::exit(3),
            Ok(_) => Ok(()),
            Err(failure) if is_process => {
                eprintln!("error: {failure}");
                std::process::exit(2)
            }
            Err(failure) => Err(failure),
        }
    }

    fn run_to_report(mut self) -> Result<Report> {
        let hint = self.hint.take();
        let is_process = self.is_process;
        let failed = |error: std::io::Error| Failure(format!("cannot wait for signals: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        runtime.block_on(async move {
            // Before anything else runs: a signal that comes early stops the service properly too.
            let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
            let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
            let running = self.start()?;
            if let Some(hint) = hint {
                for address in running.addresses() {
                    eprintln!("listening at {address}");
                }
                eprint!("{hint}");
            }
            let stopper = running.stopper();
            let mut ended = tokio::task::spawn_blocking(move || running.wait());
            let mut stopping = false;
            let mut memory = std::pin::pin!(look_after_memory(is_process));
            loop {
                tokio::select! {
                    never = &mut memory => match never {},
                    report = &mut ended => {
                        return report.map_err(|error| Failure(format!("the service ended by a defect: {error}")));
                    }
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if std::mem::replace(&mut stopping, true) {
                    std::process::exit(130);
                }
                stopper.stop();
            }
        })
    }
}

/// Where the service is the whole process, what its allocator keeps is given back when there is no work. Never ends.
async fn look_after_memory(is_process: bool) -> Infallible {
    #[cfg(feature = "cli")]
    if is_process {
        return crate::cli::give_back_when_quiet().await;
    }
    // What a process keeps is its own affair.
    let _ = is_process;
    std::future::pending().await
}

#[cfg(feature = "cli")]
impl Service {
    /// A service that is configured by the arguments of this process, its environment, and the file they name.
    ///
    /// Understands what `postroom serve` does: `--config FILE`, `--listen ADDR`, `--log FILTER`. It sets up the log
    /// as well. `--help` and wrong usage end the process, with status 0 and 2.
    ///
    /// # Errors
    ///
    /// None at present: whatever is wrong with the configuration is told on standard error, and ends the process with
    /// status 2. Returned all the same, so that `?` stands where other ways to make a service need it.
    pub fn from_args() -> Result<Self> {
        match crate::cli::service_from_args() {
            Ok(service) => Ok(service),
            Err(failure) => {
                eprintln!("error: {failure}");
                std::process::exit(2)
            }
        }
    }

    /// Has [`Self::run`] end the process with the right status, and tell on standard error where it listens.
    pub(crate) fn for_process(mut self, hint: String) -> Self {
        self.is_process = true;
        self.hint = Some(hint);
        self
    }
}
