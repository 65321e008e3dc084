//! One measurement: a fresh server, a client, and what it says. One that others disturbed is repeated.

use std::io::Read;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::case::Case;
use crate::load::Outcome;
use crate::peer::{Peer, Place, Server};
use crate::process::{Role, log, spawn};
use crate::repeats::Repeats;

/// How it is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    pub postroom: PathBuf,
    pub warm_up: Duration,
    pub time: Duration,
}

/// One peer, one case, one round.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Run {
    pub case: String,
    pub round: usize,
    pub peer: String,
    /// How often it was measured again because others used the processors.
    pub repeats: usize,
    pub disturbed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Measures, and again if it was disturbed. What was measured before a failure counts as little as the failure does.
pub fn measure(peer: Peer, case: Case, round: usize, settings: &Settings, repeats: &mut Repeats) -> Run {
    let mut run = Run {
        case: case.to_string(),
        round,
        peer: peer.name.to_owned(),
        repeats: 0,
        disturbed: false,
        outcome: None,
        failure: None,
    };
    match repeats.least_disturbed(|| measure_once(peer, case, settings), foreign) {
        Ok(least) => {
            (run.repeats, run.disturbed) = (least.repeats, least.is_disturbed());
            run.outcome = Some(least.value);
        }
        Err(error) => run.failure = Some(error.to_string()),
    }
    run
}

/// Memory is not disturbed by what others compute.
fn foreign(outcome: &Outcome) -> f64 {
    match outcome {
        Outcome::Load(measured) => measured.foreign_cpus,
        Outcome::Idle(_) => 0.0,
    }
}

fn measure_once(peer: Peer, case: Case, settings: &Settings) -> Result<Outcome> {
    let folder = tempfile::Builder::new().prefix("postroom-field-").tempdir()?;
    let place = Place::new(folder.path().to_owned(), case.is_one_core(), Some(settings.postroom.clone()));
    let run = || {
        let server = peer.launch(&place)?;
        client(peer, case, &place, &server, settings)
    };
    run().map_err(|error| {
        let mut text = error.to_string();
        for (role, of) in [(Role::Client, "client"), (Role::Server, "server")] {
            let log = log(&place, role);
            if !log.is_empty() {
                text += &format!("\n  the {of} said: {}", log.replace('\n', "\n    "));
            }
        }
        text.into()
    })
}

fn client(peer: Peer, case: Case, place: &Place, server: &Server, settings: &Settings) -> Result<Outcome> {
    let mut command = Command::new(std::env::current_exe()?);
    let servers: Vec<String> = server.ids().iter().map(u32::to_string).collect();
    command.arg("client").arg(peer.name).arg(case.to_string()).arg(&server.address).arg(servers.join(","));
    command.arg(settings.warm_up.as_millis().to_string()).arg(settings.time.as_millis().to_string());
    let mut client = spawn(command, Role::Client, place)?;
    let mut text = String::new();
    if let Some(mut output) = client.child().stdout.take() {
        output.read_to_string(&mut text)?;
    }
    let status = client.child().wait()?;
    if !status.success() {
        return Err(format!("the client has failed: {status}").into());
    }
    Ok(serde_json::from_str(&text)?)
}
