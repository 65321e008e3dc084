//! `postroom call`: one call.

use std::io::Read;
use std::time::{Duration, Instant};

use clap::Args;
use postroom_client::CallError;

use super::directory::{Codec, Described, Directory, Program};
use super::{Exit, Remote, explain, json};

/// A reply that is no longer is printed on one line.
const LINE: usize = 100;

#[derive(Debug, Args)]
pub(super) struct CallArgs {
    #[command(flatten)]
    remote: Remote,
    /// Give up after this time, connecting and the time in the service's queue included.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    deadline: Option<Duration>,
    /// What to call: PROGRAM.PROCEDURE, of the highest version, or PROGRAM/VERSION.PROCEDURE.
    #[arg(value_name = "PROGRAM.PROCEDURE", required_unless_present = "help")]
    procedure: Option<String>,
    /// The arguments as JSON, or - to read them from standard input. Bytes: {"$bin": BASE64}, or a string for its bytes.
    #[arg(value_name = "JSON")]
    arguments: Option<String>,
    /// Print help; with PROGRAM.PROCEDURE, what its arguments and its result look like.
    #[arg(short, long)]
    pub(super) help: bool,
}

impl CallArgs {
    /// Whether help on the command itself was asked for, not on a procedure.
    pub(super) fn is_plain_help(&self) -> bool {
        self.help && self.procedure.is_none()
    }
}

pub(super) async fn call(args: CallArgs) -> Result<(), Exit> {
    // What is wrong with the arguments is told before anything is asked.
    let arguments = if args.help { None } else { read_arguments(args.arguments.as_deref())? };
    let ends = args.deadline.and_then(|deadline| Some((deadline, Instant::now().checked_add(deadline)?)));
    let text = match ends {
        None => ask(&args, arguments, None).await?,
        Some((deadline, at)) => {
            let late = |_| explain(&CallError::Deadline(deadline));
            tokio::time::timeout_at(at.into(), ask(&args, arguments, Some((deadline, at)))).await.map_err(late)??
        }
    };
    super::print(&text)
}

/// Connects, asks what there is, and makes the call; what is to be printed. A deadline is its length and its end: what
/// is left of it when the call is made is the call's.
async fn ask(
    args: &CallArgs,
    arguments: Option<serde_json::Value>,
    deadline: Option<(Duration, Instant)>,
) -> Result<String, Exit> {
    let client = args.remote.connect().await?;
    let directory = Directory::ask(&client).await?;
    let name = args.procedure.as_deref().unwrap_or_default();
    let (program, procedure) = directory.find(name)?;
    if args.help {
        return Ok(describe(program, procedure));
    }
    program.speaks_messagepack()?;
    let arguments = arguments.unwrap_or(serde_json::Value::Null);
    procedure.check(name, &arguments)?;
    let arguments = json::to_msgpack(&arguments).map_err(Exit::usage)?;
    let target = postroom_client::Procedure::new(program.number, program.version, procedure.number);
    let mut request = client.request(target).args(&arguments);
    if let Some((_, at)) = deadline {
        request = request.deadline(at.saturating_duration_since(Instant::now()));
    }
    let reply: rmpv::Value = request.send().await.map_err(|error| match deadline {
        // The one that was given is named, not what was left of it, whoever noticed first.
        Some((deadline, _)) if error.is_deadline() => explain(&CallError::Deadline(deadline)),
        _ => explain(&error),
    })?;
    let reply = json::from_msgpack(&reply);
    let line = reply.to_string();
    Ok(if line.len() <= LINE { line } else { format!("{reply:#}") })
}

fn read_arguments(given: Option<&str>) -> Result<Option<serde_json::Value>, Exit> {
    let text = match given {
        None => return Ok(None),
        Some("-") => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| Exit::usage(format!("standard input cannot be read: {error}")))?;
            text
        }
        Some(text) => text.to_owned(),
    };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        let shown: String = text.chars().take(60).collect();
        Exit::usage(format!("the arguments are no JSON: {error}, in {shown:?}; write them as '{{\"name\": 1}}'"))
    })
}

fn describe(program: &Program, procedure: &Described) -> String {
    let pretty = |schema: &Option<serde_json::Value>| match schema {
        None if program.codec == Codec::Xdr => "  (XDR has no schema)".to_owned(),
        None => "  (the program gives no schema)".to_owned(),
        Some(schema) => {
            let text = serde_json::to_string_pretty(schema).unwrap_or_default();
            text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
        }
    };
    let priority = if procedure.priority { ", priority" } else { "" };
    format!(
        "{}.{}: procedure {}, {}{priority}\n\narguments:\n{}\n\nresult:\n{}",
        program.name,
        procedure.name,
        procedure.number,
        procedure.class,
        pretty(&procedure.arguments),
        pretty(&procedure.result)
    )
}
