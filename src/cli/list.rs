//! `postroom list`: what a service serves.

use clap::Args;

use super::directory::{Codec, Directory, Program};
use super::{Exit, Remote, stats};

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    remote: Remote,
    /// As JSON, with the schemas of arguments and results where the programs give them.
    #[arg(long)]
    json: bool,
    /// The numbers of the service instead: clients, workers, calls by procedure and outcome, times, limits.
    #[arg(long)]
    stats: bool,
}

pub(super) async fn list(args: ListArgs) -> Result<(), Exit> {
    let client = args.remote.connect().await?;
    if args.stats {
        let stats = stats::ask(&client).await?;
        return super::print(&if args.json { stats::json(&stats)? } else { stats::text(&stats) });
    }
    let directory = Directory::ask(&client).await?;
    let text = if args.json {
        serde_json::to_string_pretty(&directory).map_err(|error| Exit::usage(error.to_string()))?
    } else {
        table(&directory.programs)
    };
    super::print(&text)
}

fn table(programs: &[Program]) -> String {
    let mut lines = Vec::new();
    let name = |program: &Program, name: &str| format!("{}.{name}", program.name);
    let procedures = programs.iter().flat_map(|program| program.procedures.iter().map(move |one| (program, one)));
    let width = procedures.map(|(program, one)| name(program, &one.name).len()).max().unwrap_or(0);
    for program in programs {
        let codec = if program.codec == Codec::Xdr { ", XDR" } else { "" };
        lines.push(format!("{} version {} ({:#010x}){codec}", program.name, program.version, program.number));
        for procedure in &program.procedures {
            let priority = if procedure.priority { ", priority" } else { "" };
            let full = name(program, &procedure.name);
            lines.push(format!("  {:>3}  {full:<width$}  {}{priority}", procedure.number, procedure.class));
        }
        for event in &program.events {
            lines.push(format!("  {:>3}  {:<width$}  event", event.number, name(program, &event.name)));
        }
    }
    lines.join("\n")
}
