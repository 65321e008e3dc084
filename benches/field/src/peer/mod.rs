//! Who is measured. Each peer has a file: how its server is started, what it does, and what a client of it does.

pub mod capnp;
pub mod generated;
pub mod libvirt;
pub mod limit;
pub mod nats;
pub mod postroom;
pub mod redis;
pub mod tarpc;
pub mod tonic;
pub mod ttrpc;
pub mod zlink;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::Result;
use crate::case::{Case, MIB, Shape};
use crate::load::{Outcome, Plan};
use crate::process::{Process, Role, await_socket, spawn};
use postroom::Class;

/// One row of the comparison: a server, set up in one way, and a kind of client.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub name: &'static str,
    pub family: Family,
    set_up: SetUp,
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    Limit,
    Postroom,
    Tarpc,
    Tonic,
    Ttrpc,
    Zlink,
    Capnp,
    Redis,
    Nats,
    Libvirt,
}

impl Family {
    pub const ALL: [Family; 10] = [
        Family::Limit,
        Family::Postroom,
        Family::Tarpc,
        Family::Tonic,
        Family::Ttrpc,
        Family::Zlink,
        Family::Capnp,
        Family::Redis,
        Family::Nats,
        Family::Libvirt,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Family::Limit => "bare tokio echo",
            Family::Postroom => "Postroom",
            Family::Tarpc => "tarpc",
            Family::Tonic => "tonic",
            Family::Ttrpc => "ttrpc",
            Family::Zlink => "zlink",
            Family::Capnp => "capnp-rpc",
            Family::Redis => "Redis",
            Family::Nats => "NATS",
            Family::Libvirt => "libvirt",
        }
    }

    /// A framework for remote calls, as Postroom is one.
    pub fn is_rpc(self) -> bool {
        matches!(self, Family::Tarpc | Family::Tonic | Family::Ttrpc | Family::Zlink | Family::Capnp)
    }
}

#[derive(Clone, Copy, Debug)]
enum SetUp {
    LimitRaw,
    LimitCalls,
    Raw(Class),
    Own(Class),
    Tarpc(tarpc::SetUp),
    Tonic(tonic::SetUp),
    Ttrpc(Threads),
    Zlink,
    Capnp,
    Redis,
    Nats,
    Libvirt,
}

/// The threads of a server on a tokio runtime.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Threads {
    One,
    /// As many as there are cores.
    All,
}

impl Threads {
    pub fn runtime(self) -> Result<Runtime> {
        let mut builder = match self {
            Self::One => Builder::new_current_thread(),
            Self::All => Builder::new_multi_thread(),
        };
        Ok(builder.enable_all().build()?)
    }
}

const fn peer(name: &'static str, family: Family, set_up: SetUp) -> Peer {
    Peer { name, family, set_up }
}

const PEERS: [Peer; 26] = [
    peer("limit-raw", Family::Limit, SetUp::LimitRaw),
    peer("limit-calls", Family::Limit, SetUp::LimitCalls),
    peer("postroom-inline-raw", Family::Postroom, SetUp::Raw(Class::Inline)),
    peer("postroom-pool-raw", Family::Postroom, SetUp::Raw(Class::Pool)),
    peer("postroom-async-raw", Family::Postroom, SetUp::Raw(Class::Async)),
    peer("postroom-priority-raw", Family::Postroom, SetUp::Raw(Class::Priority)),
    peer("postroom-inline-own", Family::Postroom, SetUp::Own(Class::Inline)),
    peer("postroom-pool-own", Family::Postroom, SetUp::Own(Class::Pool)),
    peer("postroom-async-own", Family::Postroom, SetUp::Own(Class::Async)),
    peer("postroom-priority-own", Family::Postroom, SetUp::Own(Class::Priority)),
    peer("tarpc-spawned", Family::Tarpc, SetUp::Tarpc(tarpc::SPAWNED)),
    peer("tarpc-inline", Family::Tarpc, SetUp::Tarpc(tarpc::INLINE)),
    peer("tarpc-inline-buffered", Family::Tarpc, SetUp::Tarpc(tarpc::INLINE_BUFFERED)),
    peer("tarpc-in-turn", Family::Tarpc, SetUp::Tarpc(tarpc::IN_TURN)),
    peer("tarpc-in-turn-all-cores", Family::Tarpc, SetUp::Tarpc(tarpc::IN_TURN_ALL_CORES)),
    peer("tarpc-in-turn-buffered", Family::Tarpc, SetUp::Tarpc(tarpc::IN_TURN_BUFFERED)),
    peer("tonic", Family::Tonic, SetUp::Tonic(tonic::ONE_THREAD)),
    peer("tonic-all-cores", Family::Tonic, SetUp::Tonic(tonic::ALL_CORES)),
    peer("tonic-wide", Family::Tonic, SetUp::Tonic(tonic::WIDE)),
    peer("ttrpc", Family::Ttrpc, SetUp::Ttrpc(Threads::One)),
    peer("ttrpc-all-cores", Family::Ttrpc, SetUp::Ttrpc(Threads::All)),
    peer("zlink", Family::Zlink, SetUp::Zlink),
    peer("capnp-rpc", Family::Capnp, SetUp::Capnp),
    peer("redis", Family::Redis, SetUp::Redis),
    peer("nats", Family::Nats, SetUp::Nats),
    peer("libvirt", Family::Libvirt, SetUp::Libvirt),
];

/// Set-ups that are only there for what blocks: see [`crate::isolation`].
const BLOCKING: [Peer; 3] = [
    peer("tarpc-blocking", Family::Tarpc, SetUp::Tarpc(tarpc::BLOCKING)),
    peer("tarpc-handed-over", Family::Tarpc, SetUp::Tarpc(tarpc::HANDED_OVER)),
    peer("tonic-handed-over", Family::Tonic, SetUp::Tonic(tonic::HANDED_OVER)),
];

/// The set-ups whose servers differ in what an idle client costs, one of each family.
const IDLE: [&str; 10] = [
    "limit-raw",
    "postroom-pool-raw",
    "tarpc-inline",
    "tonic",
    "ttrpc",
    "zlink",
    "capnp-rpc",
    "redis",
    "nats",
    "libvirt",
];

impl Peer {
    pub fn all() -> &'static [Peer] {
        &PEERS
    }

    pub fn by_name(name: &str) -> Result<Self> {
        let found = PEERS.iter().chain(&BLOCKING).find(|peer| peer.name == name);
        found.copied().ok_or_else(|| format!("{name:?}: no peer has this name").into())
    }

    /// Whether this can be asked of it.
    pub fn takes(self, case: Case) -> bool {
        let Case::Load(Shape { connections, depth, size, .. }) = case else {
            return IDLE.contains(&self.name);
        };
        match self.set_up {
            // These carry no bytes of their own.
            SetUp::Raw(Class::Priority) | SetUp::Own(Class::Priority) => size == 32,
            // Its client has a thread for each call.
            SetUp::Libvirt => size == 32 && connections * depth <= 256,
            // Its largest message is 1 MiB with all that goes with it.
            SetUp::Nats => size < MIB,
            _ => true,
        }
    }

    /// What it needs and is not there: a line that says what to do.
    pub fn missing(self) -> Option<String> {
        let (program, package) = match self.set_up {
            SetUp::Redis => (redis::PROGRAM, redis::PACKAGE),
            SetUp::Nats => (nats::PROGRAM, nats::PACKAGE),
            SetUp::Libvirt => return libvirt::missing(),
            _ => return None,
        };
        let is_there = find_program(program).is_some();
        (!is_there).then(|| format!("{program} is in no folder of PATH, nor in /usr/sbin; Debian: {package}"))
    }

    pub fn launch(self, place: &Place) -> Result<Server> {
        match self.set_up {
            SetUp::LimitRaw | SetUp::LimitCalls => limit::launch(place, self.name),
            SetUp::Raw(_) | SetUp::Own(_) => postroom::launch(place),
            SetUp::Redis => redis::launch(place),
            SetUp::Nats => nats::launch(place, self.name),
            SetUp::Libvirt => libvirt::launch(place),
            _ => launch_self(place, self.name),
        }
    }

    /// Serves until the process ends; `address` is that of a broker, where the peer has one.
    pub fn serve(self, path: &Path, address: &str) -> Result<()> {
        match self.set_up {
            SetUp::LimitRaw | SetUp::LimitCalls => limit::serve(path),
            SetUp::Tarpc(set_up) => tarpc::serve(path, set_up),
            SetUp::Tonic(set_up) => tonic::serve(path, set_up),
            SetUp::Ttrpc(threads) => ttrpc::serve(path, threads),
            SetUp::Zlink => zlink::serve(path),
            SetUp::Capnp => capnp::serve(path),
            SetUp::Nats => nats::serve(path, address),
            SetUp::Raw(_) | SetUp::Own(_) | SetUp::Redis | SetUp::Libvirt => {
                Err(format!("{}: its server is another program", self.name).into())
            }
        }
    }

    pub fn call(self, plan: &Plan) -> Result<Outcome> {
        match self.set_up {
            SetUp::LimitRaw => limit::raw(plan),
            SetUp::LimitCalls => limit::calls(plan),
            SetUp::Raw(class) => postroom::raw(plan, class),
            SetUp::Own(class) => postroom::own(plan, class),
            SetUp::Tarpc(set_up) => tarpc::call(plan, set_up),
            SetUp::Tonic(set_up) => tonic::call(plan, set_up),
            SetUp::Ttrpc(_) => ttrpc::call(plan),
            SetUp::Zlink => zlink::call(plan),
            SetUp::Capnp => capnp::call(plan),
            SetUp::Redis => redis::call(plan),
            SetUp::Nats => nats::call(plan),
            SetUp::Libvirt => libvirt::call(plan),
        }
    }
}

/// Where a server runs.
pub struct Place {
    folder: PathBuf,
    one_core: bool,
    /// Postroom's program.
    pub postroom: Option<PathBuf>,
}

impl Place {
    pub fn new(folder: PathBuf, one_core: bool, postroom: Option<PathBuf>) -> Self {
        Self { folder, one_core, postroom }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn one_core(&self) -> bool {
        self.one_core
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }
}

/// A server that takes connections: its processes, and where it is.
pub struct Server {
    processes: Vec<Process>,
    pub address: String,
}

impl Server {
    pub fn new(processes: Vec<Process>, address: String) -> Self {
        Self { processes, address }
    }

    pub fn ids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::id).collect()
    }
}

/// This program as the server of a peer.
fn launch_self(place: &Place, name: &str) -> Result<Server> {
    let socket = place.socket();
    let process = spawn_self(place, name, "")?;
    Ok(Server::new(vec![process], socket.display().to_string()))
}

/// The same; it listens at the place's socket when it is ready.
fn spawn_self(place: &Place, name: &str, address: &str) -> Result<Process> {
    let socket = place.socket();
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("server").arg(name).arg(&socket).arg(address);
    let mut process = spawn(command, Role::Server, place)?;
    await_socket(&socket, &mut process)?;
    Ok(process)
}

/// What a handler that blocks does, on a thread of the runtime's or on one of its own.
async fn block(time: Duration, hands_over: bool) {
    if hands_over {
        // It fails only with the runtime, when nobody waits any more.
        let _ = tokio::task::spawn_blocking(move || std::thread::sleep(time)).await;
    } else {
        std::thread::sleep(time);
    }
}

/// Where a program is, in the folders of PATH or where Debian has what only the system starts.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_have_different_names_and_a_family_that_is_told() {
        for (n, peer) in PEERS.iter().enumerate() {
            assert!(PEERS[..n].iter().all(|other| other.name != peer.name), "{}", peer.name);
            assert!(Family::ALL.contains(&peer.family));
        }
    }

    #[test]
    fn each_family_has_one_set_up_with_idle_clients() {
        for family in Family::ALL {
            let with_idle = PEERS.iter().filter(|peer| peer.family == family && peer.takes(Case::Idle(1)));
            assert_eq!(with_idle.count(), 1, "{family:?}");
        }
    }
}
