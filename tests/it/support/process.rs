//! What the kernel says of a process, and this test binary as a child of its own.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A process that is looked at from outside; 0 is this one.
#[derive(Clone, Copy, Debug)]
pub struct Usage(pub u32);

impl Usage {
    fn file(self, name: &str) -> std::path::PathBuf {
        match self.0 {
            0 => format!("/proc/self/{name}").into(),
            pid => format!("/proc/{pid}/{name}").into(),
        }
    }

    /// How many descriptors it has open.
    pub fn descriptors(self) -> usize {
        fs::read_dir(self.file("fd")).unwrap().count()
    }

    /// What its descriptors are, as the kernel names it: `socket:[71]`, `anon_inode:[eventpoll]`.
    #[allow(dead_code)] // Only the storms of `fire` ask.
    pub fn opened(self) -> Vec<String> {
        let open = fs::read_dir(self.file("fd")).unwrap().filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        let mut open: Vec<String> = open.map(|what| what.display().to_string()).collect();
        open.sort_unstable();
        open
    }

    /// Whether a signal has stopped it.
    #[allow(dead_code)] // Not by the storms of `fire`.
    pub fn is_stopped(self) -> bool {
        let status = fs::read_to_string(self.file("status")).unwrap();
        status.lines().any(|line| line.starts_with("State:") && line.contains('T'))
    }

    /// How many threads it has.
    pub fn threads(self) -> usize {
        fs::read_dir(self.file("task")).unwrap().count()
    }

    /// Its resident memory in KiB.
    pub fn resident_kib(self) -> u64 {
        let status = fs::read_to_string(self.file("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The processor time it has used.
    pub fn cpu_time(self) -> Duration {
        let stat = fs::read_to_string(self.file("stat")).unwrap();
        // The name in parentheses may hold anything; the fields behind it are plain.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        // The kernel's unit for these is 1/100 s on all Linux systems.
        Duration::from_millis(ticks * 10)
    }
}

/// Runs one test of this binary in a process of its own, with `POSTROOM_TEST_CHILD` set, and checks that it passes.
///
/// For what looks at its whole process: in the process of all tests, others would be seen too.
pub fn own_binary_as_child(test: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("POSTROOM_TEST_CHILD", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{test} in a process of its own:\n{text}");
    assert!(text.contains("1 passed"), "{test} did not run:\n{text}");
    text
}
