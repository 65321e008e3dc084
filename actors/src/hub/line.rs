//! The line to each client of a hub: where the hub and the threads that run calls take turns at writing.
//!
//! A thread that has replies writes them itself, which saves the way through the hub's thread, if nothing of this
//! client's output waits and nobody else is writing; else the hub writes them. Nobody waits for a line: who cannot have
//! it at once leaves what there is to write to the hub, which goes on when the one who has the line reports to it.
//!
//! Every write is of whole packets, except for the last that the socket took. Its rest comes first when the line is
//! used again: the hub's own lies in the client's output, that of another thread is on its way to the hub, and until it
//! is there nobody writes.
//!
//! Bound: one line for each client that was ever connected at once to this hub, in chunks that are kept.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use crate::job::ClientKey;
use crate::stage::{CHUNKS, FIRST, place};

/// The lines of one hub's clients, by their slots.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    chunks: [OnceLock<Box<[Line]>>; CHUNKS],
}

/// The line to one client.
#[derive(Debug, Default)]
pub(crate) struct Line(Mutex<End>);

/// The service's end of a line.
#[derive(Debug, Default)]
pub(crate) struct End {
    generation: u32,
    /// None when the client has left, or is inside this process.
    socket: Option<Arc<OwnedFd>>,
    /// Whether output of the client waits: only the hub writes then.
    pub(crate) waits: bool,
    /// Whether the rest of a packet is on its way to the hub: nobody writes before it is there.
    pub(crate) rest_follows: bool,
    /// Whether something of the client waits for its calls to be answered: the hub wants to know of each at once.
    pub(crate) presses: bool,
}

/// What has become of replies that were to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// So many bytes were.
    pub(crate) bytes: usize,
    /// Whether the hub wants to know at once.
    pub(crate) presses: bool,
}

impl Lines {
    /// A new client; `socket` is none for one that only its hub can reach.
    pub(crate) fn open(&self, client: ClientKey, socket: Option<Arc<OwnedFd>>) {
        let (chunk, offset) = place(client.slot);
        let lines =
            self.chunks[chunk].get_or_init(|| std::iter::repeat_with(Line::default).take(FIRST << chunk).collect());
        *lines[offset].lock() = End { generation: client.generation, socket, ..End::default() };
    }

    /// The client has left: nobody keeps its socket. False while somebody writes to it, who will report.
    pub(crate) fn close(&self, client: ClientKey) -> bool {
        let Some(mut end) = self.get(client).map(Line::take) else { return true };
        if let Some(end) = &mut end
            && end.generation == client.generation
        {
            end.socket = None;
        }
        end.is_some()
    }

    /// The line that this client has, or had.
    pub(crate) fn get(&self, client: ClientKey) -> Option<&Line> {
        let (chunk, offset) = place(client.slot);
        self.chunks[chunk].get().map(|lines| &lines[offset])
    }

    /// A thread that ran calls writes their replies, whole packets; it has to tell the hub.
    pub(crate) fn write(&self, client: ClientKey, bytes: &[u8]) -> Written {
        const NOTHING: Written = Written { bytes: 0, presses: true };
        let Some(mut end) = self.get(client).and_then(Line::take) else { return NOTHING };
        if end.generation != client.generation || end.waits || end.rest_follows {
            return NOTHING;
        }
        let Some(socket) = &end.socket else { return NOTHING };
        let written = loop {
            match send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(written) => break written,
                Err(Errno::INTR) => {}
                // The hub meets the same when it tries, and does what follows.
                Err(_) => return NOTHING,
            }
        };
        end.rest_follows = written > 0 && written < bytes.len();
        Written { bytes: written, presses: end.presses }
    }
}

impl Line {
    /// The line, if nobody else has it.
    pub(crate) fn take(&self) -> Option<MutexGuard<'_, End>> {
        match self.0.try_lock() {
            Ok(end) => Some(end),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// For a new client, when no thread has replies for the one before, so that nobody keeps it.
    fn lock(&self) -> MutexGuard<'_, End> {
        // No panic can come between two changes to an end, so a poisoned one is still whole.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    const CLIENT: ClientKey = ClientKey { slot: 300, generation: 2 };

    fn connected() -> (Lines, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let lines = Lines::default();
        lines.open(CLIENT, Some(Arc::new(ours.into())));
        (lines, theirs)
    }

    fn write(lines: &Lines, client: ClientKey, bytes: &[u8]) -> usize {
        lines.write(client, bytes).bytes
    }

    #[test]
    fn a_reply_is_written_while_nothing_waits_and_nobody_has_the_line() {
        let (lines, mut theirs) = connected();
        assert_eq!(write(&lines, CLIENT, b"first"), 5);
        let line = lines.get(CLIENT).unwrap();
        let mut end = line.take().unwrap();
        assert_eq!(write(&lines, CLIENT, b"second"), 0, "the hub has it");
        end.waits = true;
        drop(end);
        assert_eq!(write(&lines, CLIENT, b"third"), 0, "output waits");
        line.take().unwrap().waits = false;
        assert_eq!(write(&lines, ClientKey { generation: 1, ..CLIENT }, b"fourth"), 0, "of the client before");
        assert_eq!(write(&lines, CLIENT, b"fifth"), 5);
        assert!(lines.close(CLIENT));
        assert_eq!(write(&lines, CLIENT, b"sixth"), 0);
        let mut all = String::new();
        theirs.read_to_string(&mut all).unwrap();
        assert_eq!(all, "firstfifth");
    }

    #[test]
    fn nobody_writes_between_the_parts_of_a_packet() {
        let (lines, _theirs) = connected();
        let big = vec![0; 16 << 20];
        let written = write(&lines, CLIENT, &big);
        assert!(written > 0 && written < big.len());
        let line = lines.get(CLIENT).unwrap();
        assert!(line.take().unwrap().rest_follows);
        assert_eq!(write(&lines, CLIENT, b"x"), 0);
    }
}
