//! Between `virsh` and the daemon: passes everything on, and counts the pings and pongs of both sides.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use postroom_protocol::{HEADER_LEN, Header, keepalive};
use tempfile::TempDir;

/// How many pings and pongs one side has sent.
#[derive(Debug, Default)]
pub struct Side {
    pings: AtomicUsize,
    pongs: AtomicUsize,
}

impl Side {
    pub fn pings(&self) -> usize {
        self.pings.load(SeqCst)
    }

    pub fn pongs(&self) -> usize {
        self.pongs.load(SeqCst)
    }
}

/// The relay. Its threads end with the connections that they carry.
pub struct Relay {
    pub client: Arc<Side>,
    pub service: Arc<Side>,
    folder: TempDir,
}

impl Relay {
    /// One for one connection to the service at this socket.
    pub fn start(to: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let relay = Self { client: Arc::default(), service: Arc::default(), folder };
        let listener = UnixListener::bind(relay.socket()).unwrap();
        let (client, service, to) = (relay.client.clone(), relay.service.clone(), to.to_owned());
        std::thread::spawn(move || {
            let (from, _) = listener.accept().unwrap();
            let to = UnixStream::connect(to).unwrap();
            let (from_too, to_too) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            std::thread::spawn(move || carry(from_too, to_too, &client));
            carry(to, from, &service);
        });
        relay
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

/// Passes packets on until one of both ends.
fn carry(mut from: UnixStream, mut to: UnixStream, side: &Side) {
    let mut head = [0; HEADER_LEN];
    while from.read_exact(&mut head).is_ok() {
        let (length, header) = Header::decode(&head);
        let mut packet = head.to_vec();
        packet.resize(length as usize, 0);
        if from.read_exact(&mut packet[HEADER_LEN..]).is_err() {
            break;
        }
        match keepalive::classify(&header) {
            Some(keepalive::Keepalive::Ping) => _ = side.pings.fetch_add(1, SeqCst),
            Some(keepalive::Keepalive::Pong) => _ = side.pongs.fetch_add(1, SeqCst),
            None => {}
        }
        if to.write_all(&packet).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}
