//! From an address to a listening socket.
//!
//! A Unix socket whose owner is gone is replaced; one that somebody answers on is an error. Two services that start at
//! the same time cannot both take a path: a lock file beside it decides. The socket file is removed when the
//! [`Bound`] is dropped, if it still is the one that was made here.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use postroom_protocol::Address;
use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname, listen, socket_with,
};

use crate::peer::Transport;

/// Who may connect to Unix sockets that are files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixAccess {
    /// The permissions of the socket file, for example `0o770`.
    pub mode: u32,
    /// The group that the socket file belongs to, by name or number; that of the process if none.
    pub group: Option<String>,
}

impl Default for UnixAccess {
    /// Only the user that the service runs as.
    fn default() -> Self {
        Self { mode: 0o700, group: None }
    }
}

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) fd: OwnedFd,
    /// Where it listens: the address that was asked for, with the port that TCP chose.
    pub(crate) address: Address,
    pub(crate) transport: Transport,
    /// Removes the socket file.
    pub(crate) file: Option<SocketFile>,
}

/// Why the service does not listen at an address.
#[derive(Debug)]
pub struct BindError {
    address: Address,
    cause: String,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen at {}: {}", self.address, self.cause)
    }
}

impl std::error::Error for BindError {}

/// Listens at an address; at several sockets where a TCP host name has several addresses.
pub(crate) fn listen_at(address: &Address, access: &UnixAccess, backlog: u32) -> Result<Vec<Bound>, BindError> {
    let fail = |cause: String| BindError { address: address.clone(), cause };
    match address {
        Address::Unix(path) => {
            let (fd, file) = unix_file(path, access).map_err(fail)?;
            start(&fd, backlog).map_err(|error| fail(error.to_string()))?;
            let transport = Transport::Unix;
            Ok(vec![Bound { fd, address: address.clone(), transport, file: Some(file) }])
        }
        Address::UnixAbstract(name) => {
            let fd = abstract_socket(name.as_ref()).map_err(|error| {
                fail(match error.kind() {
                    io::ErrorKind::AddrInUse => "another process listens there".to_owned(),
                    _ => error.to_string(),
                })
            })?;
            start(&fd, backlog).map_err(|error| fail(error.to_string()))?;
            Ok(vec![Bound { fd, address: address.clone(), transport: Transport::Unix, file: None }])
        }
        Address::Tcp { host, port } => {
            let resolved = (host.as_str(), *port).to_socket_addrs().map_err(|error| fail(error.to_string()))?;
            let bound: io::Result<Vec<Bound>> = resolved.map(|resolved| tcp(resolved, host, backlog)).collect();
            match bound {
                Ok(bound) if bound.is_empty() => Err(fail("the host has no address".to_owned())),
                Ok(bound) => Ok(bound),
                Err(error) => Err(fail(error.to_string())),
            }
        }
    }
}

fn start(fd: &OwnedFd, backlog: u32) -> io::Result<()> {
    Ok(listen(fd, i32::try_from(backlog).unwrap_or(i32::MAX))?)
}

fn new_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

fn tcp(resolved: SocketAddr, host: &str, backlog: u32) -> io::Result<Bound> {
    let fd = new_socket(if resolved.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 })?;
    // A service that restarts takes its port although connections of the old one linger.
    set_socket_reuseaddr(&fd, true)?;
    if resolved.is_ipv6() {
        set_ipv6_v6only(&fd, true)?;
    }
    bind(&fd, &resolved)?;
    start(&fd, backlog)?;
    let port = SocketAddr::try_from(getsockname(&fd)?)?.port();
    let address = Address::Tcp { host: host.to_owned(), port };
    Ok(Bound { fd, address, transport: Transport::Tcp, file: None })
}

fn abstract_socket(name: &[u8]) -> io::Result<OwnedFd> {
    let fd = new_socket(AddressFamily::UNIX)?;
    bind(&fd, &SocketAddrUnix::new_abstract_name(name)?)?;
    Ok(fd)
}

fn unix_file(path: &Path, access: &UnixAccess) -> Result<(OwnedFd, SocketFile), String> {
    // What is wrong with the group is told before anything is touched.
    let group = access.group.as_deref().map(find_group).transpose()?;
    let lock = Lock::take(path)?;
    remove_stale(path)?;
    let make = || -> io::Result<OwnedFd> {
        let fd = new_socket(AddressFamily::UNIX)?;
        // The mode of the socket bounds that of the file from its first moment: nobody slips in before it is set.
        fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
        bind(&fd, &SocketAddrUnix::new(path)?)?;
        Ok(fd)
    };
    let fd = make().map_err(|error| error.to_string())?;
    let file = SocketFile::new(path, lock).map_err(|error| error.to_string())?;
    if let Some(gid) = group {
        std::os::unix::fs::chown(path, None, Some(gid))
            .map_err(|error| format!("its group cannot be set to {gid}: {error}"))?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(access.mode))
        .map_err(|error| format!("its mode cannot be set to {:#o}: {error}", access.mode))?;
    Ok((fd, file))
}

fn find_group(group: &str) -> Result<u32, String> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    match nix::unistd::Group::from_name(group) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(format!("there is no group {group:?}")),
        Err(error) => Err(format!("group {group:?} cannot be looked up: {error}")),
    }
}

fn remove_stale(path: &Path) -> Result<(), String> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if !metadata.file_type().is_socket() {
        return Err("something that is no socket has this path; remove it or choose another".to_owned());
    }
    // Without waiting: a service that is alive and busy may have a full backlog.
    let probe = || -> rustix::io::Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&fd, &SocketAddrUnix::new(path)?)
    };
    match probe() {
        Ok(()) | Err(Errno::AGAIN) => Err("another service listens there; stop it or choose another path".to_owned()),
        Err(Errno::CONNREFUSED) => {
            log::info!("replacing the socket {} that a service left behind", path.display());
            std::fs::remove_file(path).map_err(|error| format!("its stale socket cannot be removed: {error}"))
        }
        Err(error) => Err(format!("a socket is there, and whether somebody listens cannot be told: {error}")),
    }
}

/// A lock file beside a socket: held for as long as the socket is.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    fn take(socket: &Path) -> Result<Self, String> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        loop {
            // For nobody else: whoever may open it could lock it, and keep the service from starting again.
            let mut options = File::options();
            options.create(true).truncate(false).write(true).mode(0o600);
            let file = options
                .open(&path)
                .map_err(|error| format!("its lock file {} cannot be opened: {error}", path.display()))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    return Err("another service listens there; stop it or choose another path".to_owned());
                }
                Err(error) => return Err(format!("its lock file {} cannot be locked: {error}", path.display())),
            }
            // The one that held it before removes it; then this is the lock of a file that nobody sees.
            let ours = file.metadata().map(|metadata| metadata.ino()).ok();
            if ours.is_some() && ours == std::fs::metadata(&path).map(|metadata| metadata.ino()).ok() {
                return Ok(Self { path, file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is held, so that whoever gets this file's lock next finds it gone and tries again.
        let _ = std::fs::remove_file(&self.path);
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// A socket file that was made here.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
    /// Released after the socket file is removed.
    _lock: Lock,
}

impl SocketFile {
    fn new(path: &Path, lock: Lock) -> io::Result<Self> {
        let inode = std::fs::symlink_metadata(path)?.ino();
        Ok(Self { path: path.to_owned(), inode, _lock: lock })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
