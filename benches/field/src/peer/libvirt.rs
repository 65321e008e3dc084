//! libvirt's own RPC: `virConnectGetLibVersion` of a `libvirtd`, by its C client, which is opened when it is needed and
//! not linked. It carries no bytes, and its client blocks: each call under way has a thread. To libvirtd it is a call with
//! priority.

use std::ffi::{CStr, CString, c_char, c_int, c_ulong, c_void};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::time::Instant;
use std::{fs, ptr, thread};

use hdrhistogram::Histogram;
use libloading::Library;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};

use super::{Place, Server, find_program};
use crate::Result;
use crate::case::Case;
use crate::isolation::HELD;
use crate::load::calls::on_one_thread;
use crate::load::idle::Idle;
use crate::load::tally::{Window, histogram};
use crate::load::{Outcome, Plan};
use crate::process::{Role, await_socket, spawn};

pub const PROGRAM: &str = "libvirtd";
const LIBRARY: &str = "libvirt.so.0";
/// Run by root, libvirtd would be the one of the system.
const NOBODY: u32 = 65534;
const FOLDERS: [&str; 6] =
    ["HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"];
const STACK: usize = 256 * 1024;

pub fn missing() -> Option<String> {
    if find_program(PROGRAM).is_none() {
        return Some(
            "libvirtd is in no folder of PATH, nor in /usr/sbin; Debian: apt-get install libvirt-daemon".into(),
        );
    }
    let opened = Libvirt::open().err()?;
    Some(format!("{opened}; Debian: apt-get install libvirt0"))
}

/// A daemon in the place's folder, that listens on nothing but its socket and finds no driver but those it has built in.
pub fn launch(place: &Place) -> Result<Server> {
    let is_root = rustix::process::getuid().is_root();
    let folder = place.folder();
    let give = |path: &Path| if is_root { chown(path, Some(NOBODY), Some(NOBODY)) } else { Ok(()) };
    let config = folder.join("libvirtd.conf");
    // By default five calls of a client are under way at once, which would be what is measured.
    fs::write(&config, "listen_tls = 0\nlisten_tcp = 0\nmax_client_requests = 1024\n")?;
    fs::create_dir_all(folder.join("drivers"))?;
    let mut command = Command::new(find_program(PROGRAM).ok_or("there is no libvirtd")?);
    command.arg("--config").arg(&config);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LIBVIRT_DRIVER_DIR", folder.join("drivers"));
    for name in FOLDERS {
        let home = folder.join(name);
        fs::create_dir_all(&home)?;
        give(&home)?;
        command.env(name, home);
    }
    give(folder)?;
    if is_root {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/");
    let socket: PathBuf = folder.join("XDG_RUNTIME_DIR/libvirt/libvirt-sock");
    let mut server = spawn(command, Role::Server, place)?;
    await_socket(&socket, &mut server)?;
    Ok(Server::new(vec![server], socket.display().to_string()))
}

pub fn call(plan: &Plan) -> Result<Outcome> {
    let libvirt = Arc::new(Libvirt::open()?);
    match plan.case {
        Case::Idle(n_clients) => on_one_thread(async {
            let first = libvirt.connect(&plan.address)?;
            Idle::warm_up(async || libvirt.call(first)).await?;
            let idle = Idle::begin(plan).await?;
            let mut connections = Vec::new();
            for _ in 0..n_clients {
                connections.push(libvirt.connect(&plan.address)?);
            }
            let idle = idle.connected(plan).await?;
            for connection in connections {
                libvirt.call(connection)?;
            }
            idle.end(plan, n_clients).await
        }),
        Case::Load(_) => load(plan, &libvirt, Libvirt::call),
    }
}

/// Calls without priority, which the daemon answers nearly as quickly: `virConnectGetCapabilities`.
pub fn ordinary(plan: &Plan) -> Result<Outcome> {
    load(plan, &Arc::new(Libvirt::open()?), Libvirt::capabilities)
}

/// Calls that block: the daemon opens a pipe, which takes until somebody opens its other end. That is done every [`HELD`],
/// and lets all on that wait.
pub fn block(plan: &Plan) -> Result<Outcome> {
    let folder = Path::new(&plan.address).ancestors().nth(3).ok_or("the socket is in no folder of a place")?;
    let pipe = folder.join("pipe");
    if !pipe.exists() {
        mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        if rustix::process::getuid().is_root() {
            chown(&pipe, Some(NOBODY), Some(NOBODY))?;
        }
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let (path, ends) = (pipe.clone(), is_over.clone());
    let opener = thread::spawn(move || {
        while !ends.load(Relaxed) {
            thread::sleep(HELD);
            // Whoever waits for it gets on, and finds nothing in it; where nobody waits, it fails.
            let _ = open(&path, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty());
        }
    });
    let path = CString::new(pipe.as_os_str().as_encoded_bytes())?;
    let outcome = load(plan, &Arc::new(Libvirt::open()?), move |libvirt, connection| {
        libvirt.restore(connection, &path);
        Ok(())
    });
    is_over.store(true, Relaxed);
    opener.join().map_err(|_| "the thread that opens the pipe has panicked")?;
    outcome
}

fn load(
    plan: &Plan,
    libvirt: &Arc<Libvirt>,
    call: impl Fn(&Libvirt, Connection) -> Result<()> + Clone + Send + 'static,
) -> Result<Outcome> {
    let shape = plan.shape();
    let flags = Arc::new(Flags { counts: AtomicBool::new(false), is_over: AtomicBool::new(false) });
    let all_there = Arc::new(Barrier::new(shape.connections * shape.depth + 1));
    let mut threads = Vec::new();
    for _ in 0..shape.connections {
        let connection = libvirt.connect(&plan.address)?;
        for _ in 0..shape.depth {
            let (libvirt, flags, all_there) = (libvirt.clone(), flags.clone(), all_there.clone());
            let call = call.clone();
            let calls = move || {
                all_there.wait();
                slot(&libvirt, connection, &flags, call)
            };
            threads.push(thread::Builder::new().stack_size(STACK).spawn(calls)?);
        }
    }
    all_there.wait();
    thread::sleep(plan.warm_up);
    let window = Window::begin(plan)?;
    flags.counts.store(true, Relaxed);
    thread::sleep(plan.time);
    flags.counts.store(false, Relaxed);
    // The time is over now; what the threads have counted is known when they have ended.
    let over = window.over(plan)?;
    flags.is_over.store(true, Relaxed);
    let mut latencies = histogram()?;
    for thread in threads {
        let counted = thread.join().map_err(|_| "a thread of the client has panicked")??;
        latencies.add(counted)?;
    }
    Ok(Outcome::Load(over.measured(&latencies)?))
}

struct Flags {
    counts: AtomicBool,
    is_over: AtomicBool,
}

fn slot(
    libvirt: &Libvirt,
    connection: Connection,
    flags: &Flags,
    call: impl Fn(&Libvirt, Connection) -> Result<()>,
) -> Result<Histogram<u64>> {
    let mut latencies = histogram()?;
    while !flags.is_over.load(Relaxed) {
        let sent = Instant::now();
        call(libvirt, connection)?;
        if flags.counts.load(Relaxed) {
            latencies.saturating_record(sent.elapsed().as_nanos() as u64);
        }
    }
    Ok(latencies)
}

/// A `virConnectPtr`, open until the process ends.
#[derive(Clone, Copy)]
struct Connection(*mut c_void);

// SAFETY: libvirt's connections may be used by any number of threads at the same time.
unsafe impl Send for Connection {}

type Initialize = unsafe extern "C" fn() -> c_int;
type Open = unsafe extern "C" fn(*const c_char) -> *mut c_void;
type GetCapabilities = unsafe extern "C" fn(*mut c_void) -> *mut c_char;
type Restore = unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int;
type GetLibVersion = unsafe extern "C" fn(*mut c_void, *mut c_ulong) -> c_int;
type LastMessage = unsafe extern "C" fn() -> *const c_char;
type OnError = extern "C" fn(*mut c_void, *mut c_void);
type SetErrorFunc = unsafe extern "C" fn(*mut c_void, OnError);

/// Errors are asked for; libvirt would print each one, too.
extern "C" fn say_nothing(_: *mut c_void, _: *mut c_void) {}

unsafe extern "C" {
    fn free(memory: *mut c_void);
}

/// The functions of the library that are used, which stay as long as it is open.
struct Libvirt {
    open: Open,
    get_lib_version: GetLibVersion,
    get_capabilities: GetCapabilities,
    restore: Restore,
    last_message: LastMessage,
    _library: Library,
}

impl Libvirt {
    fn open() -> Result<Self> {
        // SAFETY: libvirt's constructors and destructors have no conditions, and the functions have these types in its
        // public headers, since its first versions.
        unsafe {
            let library = Library::new(LIBRARY)?;
            let initialize: Initialize = *library.get(b"virInitialize\0")?;
            let open: Open = *library.get(b"virConnectOpen\0")?;
            let get_lib_version: GetLibVersion = *library.get(b"virConnectGetLibVersion\0")?;
            let get_capabilities: GetCapabilities = *library.get(b"virConnectGetCapabilities\0")?;
            let restore: Restore = *library.get(b"virDomainRestore\0")?;
            let last_message: LastMessage = *library.get(b"virGetLastErrorMessage\0")?;
            let set_error_func: SetErrorFunc = *library.get(b"virSetErrorFunc\0")?;
            if initialize() != 0 {
                return Err("libvirt does not start".into());
            }
            set_error_func(ptr::null_mut(), say_nothing);
            Ok(Self { open, get_lib_version, get_capabilities, restore, last_message, _library: library })
        }
    }

    /// The test driver of the daemon there.
    fn connect(&self, socket: &str) -> Result<Connection> {
        let uri = CString::new(format!("test+unix:///default?socket={socket}"))?;
        // SAFETY: the text ends with a zero, and lives until the function returns.
        let connection = unsafe { (self.open)(uri.as_ptr()) };
        if connection.is_null() { Err(self.error()) } else { Ok(Connection(connection)) }
    }

    fn call(&self, connection: Connection) -> Result<()> {
        let mut version = 0;
        // SAFETY: the connection is open, for it is never closed.
        let result = unsafe { (self.get_lib_version)(connection.0, &raw mut version) };
        if result == 0 && version > 0 { Ok(()) } else { Err(self.error()) }
    }

    fn capabilities(&self, connection: Connection) -> Result<()> {
        // SAFETY: the connection is open, for it is never closed.
        let text = unsafe { (self.get_capabilities)(connection.0) };
        if text.is_null() {
            return Err(self.error());
        }
        // SAFETY: the text belongs to the caller, who frees it as C does.
        unsafe { free(text.cast()) };
        Ok(())
    }

    /// Makes the daemon open a file; that there is no domain in it is no matter.
    fn restore(&self, connection: Connection, path: &CStr) {
        // SAFETY: the connection is open, for it is never closed, and the text ends with a zero.
        unsafe { (self.restore)(connection.0, path.as_ptr()) };
    }

    fn error(&self) -> crate::Failure {
        // SAFETY: it is the text of this thread's last error, and nothing of libvirt is called before it is copied.
        let text = unsafe { CStr::from_ptr((self.last_message)()) };
        format!("libvirt: {}", text.to_string_lossy()).into()
    }
}
