//! The binary as a process, killed by its own id when the test lets go of it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use postroom::Address;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Client, PATIENCE, Usage, eventually};

/// A running service.
pub struct Binary {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    /// Reads the log until the process has ended.
    reader: Option<std::thread::JoinHandle<()>>,
    address: Option<Address>,
    _folder: TempDir,
}

impl Binary {
    /// The binary, ready to be given arguments; without the environment's own settings.
    pub fn command() -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postroom"));
        Self::clean(&mut command);
        command
    }

    fn clean(command: &mut Command) {
        command.env_remove("POSTROOM_ADDRESS").env_remove("POSTROOM_LOG").env_remove("XDG_RUNTIME_DIR");
        command.stdin(Stdio::null());
    }

    /// `postroom serve` at a Unix socket of its own, with this configuration.
    pub fn serve(config: &str) -> Self {
        Self::serve_with(config, &[])
    }

    /// The same, with more arguments.
    pub fn serve_with(config: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("postroom.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Self::command();
        command.args(["serve", "--config"]).arg(file).args(arguments);
        if !config.contains("listen") && !arguments.contains(&"--listen") {
            command.arg("--listen").arg(format!("unix:{}", folder.path().join("socket").display()));
        }
        Self::spawn(command, folder)
    }

    /// `postroom serve` with at most so many descriptors.
    pub fn serve_with_descriptors(descriptors: u32, config: &str) -> Self {
        Self::try_serve_with_descriptors(descriptors, config).expect("it starts")
    }

    /// The same, or none if it ends at once with status 2.
    pub fn try_serve_with_descriptors(descriptors: u32, config: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("postroom.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("sh");
        Self::clean(&mut command);
        command.arg("-c").arg(format!("ulimit -n {descriptors}; exec \"$0\" \"$@\""));
        command.arg(env!("CARGO_BIN_EXE_postroom")).args(["serve", "--config"]).arg(file);
        command.arg("--listen").arg(format!("unix:{}", folder.path().join("socket").display()));
        Self::try_spawn(command, folder)
    }

    /// Any command that serves, and says so as the binary does; the folder is removed at the end.
    pub fn spawn(command: Command, folder: TempDir) -> Self {
        Self::try_spawn(command, folder).expect("it starts")
    }

    fn try_spawn(mut command: Command, folder: TempDir) -> Option<Self> {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let into = log.clone();
        // Ends with the child; a child whose log nobody reads would block some day.
        let reader = std::thread::spawn(move || {
            for line in stderr.lines() {
                let Ok(line) = line else { break };
                into.lock().unwrap().push(line);
            }
        });
        let mut binary = Self { child, log, reader: Some(reader), address: None, _folder: folder };
        let mut ended = None;
        eventually("the service says where it listens", || {
            ended = binary.child.try_wait().unwrap();
            binary.address = binary.addresses().into_iter().next();
            binary.address.is_some() || ended.is_some()
        });
        match ended {
            None => Some(binary),
            Some(_) => {
                let status = binary.wait();
                assert_eq!(status.code(), Some(2), "it ended at once with {status}:\n{}", binary.log());
                println!("it did not start:\n{}", binary.log());
                None
            }
        }
    }

    /// The first address that it listens at.
    pub fn address(&self) -> &Address {
        self.address.as_ref().unwrap()
    }

    /// All addresses that it has told so far.
    pub fn addresses(&self) -> Vec<Address> {
        let log = self.log.lock().unwrap();
        log.iter().filter_map(|line| line.strip_prefix("listening at ")).map(|text| text.parse().unwrap()).collect()
    }

    /// The path of its Unix socket.
    pub fn path(&self) -> &Path {
        match self.address() {
            Address::Unix(path) => path,
            other => panic!("{other} is no path"),
        }
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.address())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn usage(&self) -> Usage {
        Usage(self.pid())
    }

    /// What it has logged, as far as it has been read: all of it once the process was waited for.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    #[allow(dead_code)] // Only the storms of `fire` send a second signal.
    /// The same for one that may have ended. Nobody else gets the signal: it is not waited for yet.
    pub fn try_signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // So that the log is whole.
                self.reader.take().map(std::thread::JoinHandle::join);
                return status;
            }
            assert!(Instant::now() < deadline, "it still runs:\n{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Waits until it has ended; returns its exit status.
    #[track_caller]
    pub fn exit_code(&mut self) -> Option<i32> {
        self.wait().code()
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of process {}:\n{}", self.pid(), self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
