//! A socket: bytes in both directions, each bounded, and who has ended what.

/// Bytes on their way, at most so many.
#[derive(Debug)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    start: usize,
    room: usize,
}

impl Queue {
    fn new(room: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, room }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub(super) fn room(&self) -> usize {
        self.room - (self.bytes.len() - self.start)
    }

    /// Takes what there is room for.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        self.bytes.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Moves at most `most` bytes to `out`.
    pub(super) fn pop(&mut self, most: usize, out: &mut Vec<u8>) {
        let end = self.bytes.len().min(self.start + most);
        out.clear();
        out.extend_from_slice(&self.bytes[self.start..end]);
        self.start = end;
        if self.is_empty() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start > 2 * self.room {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }
}

#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) to_service: Queue,
    pub(super) to_client: Queue,
    /// The client has ended its input; it has left altogether.
    pub(super) client_ended: bool,
    pub(super) client_left: bool,
    /// The service has ended its output; it has closed altogether.
    pub(super) service_ended: bool,
    pub(super) service_left: bool,
    /// What the service's reactor was asked to tell of.
    pub(super) reader_waits: bool,
    pub(super) writer_waits: bool,
}

/// A read or a write that would block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Blocks;

/// The other side has left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl Pipe {
    pub(super) fn new(room: usize) -> Self {
        Self {
            to_service: Queue::new(room),
            to_client: Queue::new(room),
            client_ended: false,
            client_left: false,
            service_ended: false,
            service_left: false,
            reader_waits: false,
            writer_waits: false,
        }
    }

    /// The service reads. Nothing in `out` means the end of input.
    pub(super) fn read(&mut self, most: usize, out: &mut Vec<u8>) -> Result<Result<(), Broken>, Blocks> {
        out.clear();
        if self.to_service.is_empty() && self.client_left {
            return Ok(Err(Broken));
        }
        if self.to_service.is_empty() && !self.client_ended {
            self.reader_waits = true;
            return Err(Blocks);
        }
        self.to_service.pop(most, out);
        Ok(Ok(()))
    }

    /// The service writes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<usize, Option<Blocks>> {
        if self.client_left || self.service_ended {
            return Err(None);
        }
        match self.to_client.push(bytes) {
            0 if !bytes.is_empty() => Err(Some(Blocks)),
            taken => Ok(taken),
        }
    }
}
