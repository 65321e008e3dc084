//! The example, run as its reader would run it. `cargo test` has built it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use postroom::client::blocking::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::support::PATIENCE;

#[derive(Serialize)]
struct Domain<'a> {
    name: &'a str,
}

#[derive(Debug, Deserialize)]
struct Done {}

/// A process that is killed when the test lets go of it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the process writes, line by line.
fn lines(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || BufReader::new(from).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    lines
}

#[test]
fn the_example_serves_calls_that_stop_and_start_domains_and_prints_what_became_of_them() {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().parent().unwrap().join("examples/domain_events");
    assert!(path.exists(), "`cargo test` without `--test` builds it: {}", path.display());
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("socket").display());

    let mut command = Command::new(path);
    let mut process = Process(command.arg(&address).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
    let printed = lines(process.0.stdout.take().unwrap());

    let deadline = Instant::now() + PATIENCE;
    let client = loop {
        match Client::connect(address.as_str()) {
            Ok(client) => break client,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        // There is no gate in another process.
        thread::sleep(Duration::from_millis(5));
    };
    for (procedure, line) in [("domains.stop", "test: stopped"), ("domains.start", "test: started")] {
        let Done {} = client.call(procedure, &Domain { name: "test" }).unwrap();
        assert_eq!(printed.recv_timeout(PATIENCE).unwrap(), line);
    }
    let error = client.call::<Done>("domains.start", &Domain { name: "nobody" }).unwrap_err();
    assert!(error.to_string().contains("nobody"), "{error}");

    kill_process(Pid::from_child(&process.0), Signal::TERM).unwrap();
    assert_eq!(process.0.wait().unwrap().code(), Some(0));
    assert_eq!(printed.recv_timeout(PATIENCE).ok(), None, "nothing else happened");
}
