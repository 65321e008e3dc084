//! `postroom watch`: the events of a service, as they come.

use std::io::{ErrorKind, Write};

use clap::{Args, ValueEnum};
use postroom_client::SubscriptionError;
use serde_json::json;

use super::json::from_msgpack;
use super::{Exit, Remote, explain};

#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    #[command(flatten)]
    remote: Remote,
    /// What is dropped when events come faster than they are read.
    #[arg(long, value_enum, default_value_t = Overflow::DropOldest)]
    overflow: Overflow,
    /// How many events may wait to be read.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    queue: u32,
    /// End after so many events. Without it, when the connection ends.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// What to watch: PROGRAM.EVENT, of the highest version, or PROGRAM/VERSION.EVENT.
    #[arg(value_name = "PROGRAM.EVENT")]
    event: String,
}

/// What is dropped, as it is written on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Overflow {
    /// The oldest event that waits.
    DropOldest,
    /// The event that has just come.
    DropNewest,
    /// None: the connection is closed.
    Disconnect,
}

impl From<Overflow> for postroom_client::Overflow {
    fn from(overflow: Overflow) -> Self {
        match overflow {
            Overflow::DropOldest => Self::DropOldest,
            Overflow::DropNewest => Self::DropNewest,
            Overflow::Disconnect => Self::Disconnect,
        }
    }
}

pub(super) async fn watch(args: WatchArgs) -> Result<(), Exit> {
    let WatchArgs { remote, overflow, queue, count, event } = args;
    let client = remote.connect().await?;
    let wish = client.subscribe::<rmpv::Value>(event).overflow(overflow.into()).queue(queue);
    let mut events = wish.await.map_err(|error| explain(&error))?;
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(event) = events.next().await else { break };
        let event = event.map_err(|error| match &error {
            SubscriptionError::Overflowed(error) => Exit::service(error.code().as_str(), error.message()),
            _ => Exit::usage(error.to_string()),
        })?;
        if !print(&json!({ "value": from_msgpack(&event.value), "lost": event.lost }).to_string())? {
            break;
        }
        left -= 1;
    }
    Ok(())
}

/// Prints a line at once. False when nobody reads any more, which is no error.
fn print(line: &str) -> Result<bool, Exit> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Exit::usage(format!("standard output cannot be written: {error}"))),
    }
}
