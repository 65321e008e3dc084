//! Where a command finds its service.

use std::future::Future;

use clap::Args;
use postroom_actors::Address;
use postroom_client::{Client, ClientBuilder};

use super::{Exit, address};

#[derive(Debug, Args)]
pub(super) struct Remote {
    /// The service: unix:PATH, unix:@ABSTRACT or tcp:HOST:PORT. Default: the socket that `postroom serve` uses.
    #[arg(long, value_name = "ADDR")]
    to: Option<Address>,
}

impl Remote {
    pub(super) fn address(&self) -> Result<Address, Exit> {
        match &self.to {
            Some(address) => Ok(address.clone()),
            None => Ok(address::default("--to unix:PATH")?),
        }
    }

    pub(super) async fn connect(&self) -> Result<Client, Exit> {
        Ok(builder().connect(self.address()?).await?)
    }
}

/// A client that introduces itself as this program.
pub(super) fn builder() -> ClientBuilder {
    Client::builder().name("postroom", env!("CARGO_PKG_VERSION"))
}

/// Runs a command on a runtime of its own.
pub(super) fn run(command: impl Future<Output = Result<(), Exit>>) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Exit::usage(format!("no runtime can be made: {error}")))?;
    let done = runtime.block_on(command);
    // A command that was given up is not held by a name that is still being looked up.
    runtime.shutdown_background();
    done
}
