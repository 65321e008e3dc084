//! The example as a process, and `virsh` as its client.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use rmpv::Value;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::examples;
use crate::support::*;

/// The domain that is there from the beginning.
pub const TEST_UUID: &str = "6695eb01-f6a4-8304-79aa-97f2502e193f";
/// The UUID of [`web`].
pub const WEB_UUID: &str = "8f4c1f5e-1111-2222-3333-444455556666";

/// A domain to define, that takes so long to start.
pub fn web(boot_ms: u64) -> String {
    format!(
        "<domain type='test'>
  <name>web</name>
  <uuid>{WEB_UUID}</uuid>
  <metadata><boot xmlns='urn:postroom:made-up' ms='{boot_ms}'/></metadata>
  <memory unit='MiB'>512</memory>
  <vcpu>2</vcpu>
  <os><type arch='x86_64'>hvm</type></os>
</domain>
"
    )
}

/// The example, and a folder for what belongs to its clients.
pub struct Daemon {
    pub service: Binary,
    folder: TempDir,
}

/// What a command left behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    pub status: Option<i32>,
    pub output: String,
    pub errors: String,
}

impl Daemon {
    /// The daemon, if there is a `virsh` to talk to it.
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// The same, with a configuration.
    pub fn start_with(config: &str) -> Option<Self> {
        if Command::new("virsh").arg("--version").output().is_err() {
            println!("skipped: there is no virsh (Debian: libvirt-clients)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("postroom.toml");
        std::fs::write(&file, config).unwrap();
        let service = examples::example_with("libvirt_daemon", &["--config", file.to_str().unwrap()]);
        Some(Self { service, folder })
    }

    /// Its URI, whatever driver that names.
    pub fn uri(&self, driver: &str) -> String {
        uri(driver, self.service.path())
    }

    /// `virsh` with these arguments, connected to the daemon as its test driver.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_to(&self.uri("test+unix:///default"), arguments)
    }

    /// The same, connected to this URI.
    pub fn command_to(&self, uri: &str, arguments: &[&str]) -> Command {
        // Its output goes to a pipe, and each line has to come when it is printed.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "virsh", "-c", uri]).args(arguments).stdin(Stdio::null());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C");
        command.env("HOME", self.folder.path()).current_dir(self.folder.path());
        command
    }

    /// Runs it to its end.
    pub fn virsh(&self, arguments: &[&str]) -> Done {
        finish(&mut self.command(arguments))
    }

    /// The same for one that has to succeed: what it printed, without the empty lines at its end.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let done = self.virsh(arguments);
        assert_eq!((done.status, done.errors.as_str()), (Some(0), ""), "{arguments:?} printed {}", done.output);
        done.output
    }

    /// One that has to fail: what it said.
    #[track_caller]
    pub fn error(&self, arguments: &[&str]) -> String {
        let done = self.virsh(arguments);
        assert_eq!(done.status, Some(1), "{arguments:?} printed {}", done.output);
        done.errors
    }

    /// Several commands in one `virsh`: what it printed, without prompts and empty lines.
    pub fn session(&self, commands: &[&str]) -> Vec<String> {
        let mut command = self.command(&[]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // They fit a pipe, and nothing is read in between.
        child.stdin.take().unwrap().write_all((commands.join("\n") + "\n").as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{done:?}");
        assert!(done.stderr.is_empty(), "{done:?}");
        let output = String::from_utf8(done.stdout).unwrap();
        let is_told = |line: &&str| !line.is_empty() && !line.starts_with("virsh # ");
        output.lines().filter(is_told).map(str::to_owned).collect()
    }

    /// Writes domain XML to a file, and says where.
    pub fn file(&self, name: &str, xml: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        std::fs::write(&path, xml).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Defines [`web`].
    #[track_caller]
    pub fn define_web(&self, boot_ms: u64) {
        let file = self.file("web.xml", &web(boot_ms));
        assert_eq!(self.ok(&["define", &file]), format!("Domain 'web' defined from {file}"));
    }

    /// How many calls of a procedure were answered with a result.
    pub fn answered(&self, procedure: &str) -> u64 {
        self.counted(procedure, |it| it["outcomes"]["ok"].as_u64().unwrap_or(0))
    }

    /// How many calls of a procedure are on their way.
    pub fn in_progress(&self, procedure: &str) -> u64 {
        self.counted(procedure, |it| it["in_progress"].as_u64().unwrap())
    }

    fn counted(&self, procedure: &str, count: impl Fn(&Value) -> u64) -> u64 {
        let stats = self.service.client().call(DIRECTORY, 3, &[]);
        let name = Value::from(format!("remote.{procedure}"));
        let found = stats["procedures"].as_array().unwrap().iter().find(|it| it["name"] == name);
        // A procedure that nobody has called yet does not stand there.
        found.map_or(0, count)
    }

    /// How many workers run a call.
    pub fn busy_workers(&self) -> u64 {
        let stats = self.service.client().call(DIRECTORY, 3, &[]);
        let count = |key: &str| stats["workers"][key].as_u64().unwrap();
        count("current").saturating_sub(count("free"))
    }
}

/// The URI of a daemon at this socket.
pub fn uri(driver: &str, socket: &Path) -> String {
    format!("{driver}?socket={}", socket.display())
}

/// Runs a command to its end.
pub fn finish(command: &mut Command) -> Done {
    let done = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    Done { status: done.status.code(), output: text(done.stdout), errors: text(done.stderr) }
}

/// A `virsh` that goes on until its test lets go of it; what it prints is read line by line, and what it is to do may be
/// told it meanwhile.
pub struct Ongoing {
    child: Child,
    lines: Receiver<String>,
}

impl Ongoing {
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (tell, lines) = channel();
        let (output, errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let readers: [Box<dyn BufRead + Send>; 2] =
            [Box::new(BufReader::new(output)), Box::new(BufReader::new(errors))];
        for reader in readers {
            let tell = tell.clone();
            // Ends with the child.
            std::thread::spawn(move || {
                for line in reader.lines().map_while(Result::ok).filter(|line| !line.is_empty()) {
                    if tell.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Self { child, lines }
    }

    /// The next line that is not empty.
    #[track_caller]
    pub fn line(&self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("virsh printed nothing for {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("virsh has ended"),
        }
    }

    /// What it has printed and nobody has read.
    pub fn unread(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Has it run a command, and waits until it prints this line.
    #[track_caller]
    pub fn ask(&mut self, command: &str, expected: &str) {
        self.child.stdin.as_mut().unwrap().write_all(format!("{command}\n").as_bytes()).unwrap();
        while self.line() != expected {}
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended; its exit status.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("virsh ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
