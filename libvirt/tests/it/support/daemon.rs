//! A `libvirtd` of the test's own, in a folder of its own, killed by its own id when the test lets go of it.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::PATIENCE;

/// Run by root, libvirtd would be the one of the system.
const NOBODY: u32 = 65534;

pub struct Daemon {
    child: Child,
    folder: TempDir,
}

impl Daemon {
    /// A daemon that accepts connections.
    #[track_caller]
    pub fn start() -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        // It listens on nothing but its Unix socket, and finds no driver but the ones it has built in.
        fs::write(path.join("libvirtd.conf"), "listen_tls = 0\nlisten_tcp = 0\n").unwrap();
        fs::create_dir(path.join("drivers")).unwrap();
        let log = fs::File::create(path.join("log")).unwrap();

        let mut command = Command::new(Daemon::program());
        // A test that is killed stops nobody, so the daemon leaves by itself when its last client has gone.
        command.args(["--timeout", "20", "--config"]).arg(path.join("libvirtd.conf"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LIBVIRT_DRIVER_DIR", path.join("drivers"));
        for name in ["HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"]
        {
            let folder = path.join(name);
            fs::create_dir(&folder).unwrap();
            if rustix::process::getuid().is_root() {
                chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            command.env(name, folder);
        }
        if rustix::process::getuid().is_root() {
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            command.uid(NOBODY).gid(NOBODY);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).current_dir("/");

        let mut daemon = Daemon { child: command.spawn().unwrap(), folder };
        let deadline = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(daemon.socket()).is_err() {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "libvirtd does not serve:\n{}", daemon.log());
            // There is no gate in somebody else's process.
            thread::sleep(std::time::Duration::from_millis(5));
        }
        daemon
    }

    fn program() -> &'static str {
        let places = ["/usr/sbin/libvirtd", "/usr/bin/libvirtd", "/usr/local/sbin/libvirtd"];
        places.into_iter().find(|place| Path::new(place).exists()).expect("libvirtd is missing; Debian: libvirt-daemon")
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("XDG_RUNTIME_DIR/libvirt/libvirt-sock")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// It answers nothing any more, and does not hang up either.
    pub fn freeze(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    pub fn kill(&mut self) {
        // Also one that is frozen.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
