//! Where and with what a run was made: the machine, its kernel, and the versions of everything that was measured.

use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde::Serialize;

use crate::peer::{find_program, libvirt, nats, redis};

/// What this program was built with.
const LOCK: &str = include_str!("../Cargo.lock");
const CRATES: [&str; 7] = ["capnp-rpc", "tarpc", "tokio", "tonic", "ttrpc", "zlink", "actix"];

#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub date: String,
    pub cpu: String,
    pub cores: usize,
    pub memory_mib: u64,
    pub kernel: String,
    pub versions: BTreeMap<String, String>,
}

impl Machine {
    /// This one, now. What cannot be found out is said to be unknown.
    pub fn here(postroom: &Path) -> Self {
        let mut versions = BTreeMap::new();
        for name in CRATES {
            versions.insert(name.to_owned(), locked(LOCK, name).unwrap_or("unknown").to_owned());
        }
        let programs = [redis::PROGRAM, nats::PROGRAM, libvirt::PROGRAM].map(|name| (name, find_program(name)));
        let postroom = ("postroom", Some(postroom.to_owned()).filter(|file| file.is_file()));
        for (name, file) in programs.into_iter().chain([postroom]) {
            let line = file.and_then(|file| first_line(Command::new(file).arg("--version")));
            versions.insert(name.to_owned(), line.unwrap_or_else(|| "not there".to_owned()));
        }
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let commit = first_line(Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(here));
        versions.insert("commit".to_owned(), commit.unwrap_or_else(|| "unknown".to_owned()));
        let uname = rustix::system::uname();
        let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: field("/proc/meminfo", "MemTotal")
                .and_then(|kib| kib.split(' ').next()?.parse().ok())
                .unwrap_or(0)
                / 1024,
            kernel: format!("{} {} {}", text(uname.sysname()), text(uname.release()), text(uname.machine())),
            versions,
        }
    }
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

/// The version of a crate in a lock file.
fn locked<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_names_the_version_of_each_crate() {
        for name in CRATES {
            let version = locked(LOCK, name).unwrap();
            assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{name} {version}");
        }
        assert_eq!(locked(LOCK, "no such crate"), None);
    }
}
