//! A line between a client and the daemon that tells of the keepalive packets on it.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use tempfile::TempDir;

/// The number of the program `keepalive`, on every connection of libvirt.
const KEEPALIVE: u32 = 0x6b65_6570;
/// Its procedure that answers.
const PONG: u32 = 2;

pub struct Line {
    folder: TempDir,
    /// One for each answer of the daemon to a ping of the client.
    pub pongs: Receiver<()>,
}

impl Line {
    /// A line for one client to the daemon at this socket. Ends with either of them.
    pub fn to(daemon: &Path) -> Line {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let theirs = UnixStream::connect(daemon).unwrap();
        let (told, pongs) = mpsc::channel();
        thread::spawn(move || {
            let (ours, _) = listener.accept().unwrap();
            let (from_daemon, to_client) = (theirs.try_clone().unwrap(), ours.try_clone().unwrap());
            thread::spawn(move || pass_on(from_daemon, to_client, Some(told)));
            pass_on(ours, theirs, None)
        });
        Line { folder, pongs }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

/// Passes packets on until an end is gone, and then the other end too.
fn pass_on(mut from: UnixStream, mut to: UnixStream, told: Option<Sender<()>>) -> io::Result<()> {
    let outcome = (|| {
        loop {
            let mut length = [0; 4];
            from.read_exact(&mut length)?;
            let mut packet = length.to_vec();
            packet.resize(u32::from_be_bytes(length) as usize, 0);
            from.read_exact(&mut packet[4..])?;
            to.write_all(&packet)?;
            let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
            if let Some(told) = &told
                && (word(4), word(12)) == (KEEPALIVE, PONG)
            {
                told.send(()).ok();
            }
        }
    })();
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
    outcome
}
