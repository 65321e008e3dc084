//! Processes: servers and clients, started so that they end with this one, and on one core where the case says so.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Result;
use crate::peer::Place;

const PATIENCE: Duration = Duration::from_secs(20);
const PERIOD: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, PartialEq)]
pub enum Role {
    Server,
    Client,
}

impl Role {
    fn log(self) -> &'static str {
        match self {
            Role::Server => "server.log",
            Role::Client => "client.log",
        }
    }
}

/// A process that is killed when this is dropped.
pub struct Process {
    child: Child,
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already: that is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts it. What it has to say goes to a log in the place; the output of a client is its result.
pub fn spawn(mut command: Command, role: Role, place: &Place) -> Result<Process> {
    let log = File::options().append(true).create(true).open(place.folder().join(role.log()))?;
    command.stdin(Stdio::null()).stderr(log.try_clone()?);
    match role {
        Role::Server => command.stdout(log),
        Role::Client => command.stdout(Stdio::piped()),
    };
    let cores = place.one_core().then(first_core).transpose()?;
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if let Some(cores) = &cores {
            sched_setaffinity(None, cores)?;
        }
        io::Result::Ok(())
    };
    // SAFETY: between fork and exec it makes two system calls, and neither allocates nor takes a lock.
    unsafe { command.pre_exec(prepare) };
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.spawn().map_err(|error| format!("{name} cannot be started: {error}"))?;
    Ok(Process { child })
}

/// What was logged, or the end of it.
pub fn log(place: &Place, role: Role) -> String {
    let text = std::fs::read(place.folder().join(role.log())).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let last: Vec<&str> = text.lines().rev().take(10).collect();
    last.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Waits until somebody accepts connections there.
pub fn await_socket(path: &Path, server: &mut Process) -> Result<()> {
    await_until(server, || UnixStream::connect(path).is_ok())
}

/// Waits until it is so; there is no gate in somebody else's process.
pub fn await_until(server: &mut Process, is_so: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if let Some(status) = server.child.try_wait()? {
            return Err(format!("the server has ended: {status}").into());
        }
        if Instant::now() > deadline {
            return Err(format!("the server does not listen after {PATIENCE:?}").into());
        }
        sleep(PERIOD);
    }
    Ok(())
}

fn first_core() -> Result<CpuSet> {
    let all = sched_getaffinity(None)?;
    let first = (0..CpuSet::MAX_CPU).find(|core| all.is_set(*core)).ok_or("there is no core to run on")?;
    let mut one = CpuSet::new();
    one.set(first);
    Ok(one)
}

/// Raises the soft limit of open descriptors to the hard one, for each connection is a descriptor. Processes that are
/// started later inherit it.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, the connection that does not fit says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
