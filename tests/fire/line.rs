//! A client's end of a socket that never waits unless it is told to: what is to be sent lies in a queue, what has come
//! is handed out, and both happen in [`Line::pump`].

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use postroom::Address;
use postroom_protocol::{HEADER_LEN, Header};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::messages;
use crate::support::Packet;

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

#[derive(Debug)]
enum Item {
    /// Bytes, and how many of them have left.
    Bytes(Vec<u8>, usize),
    /// One byte that carries a descriptor.
    Carrier(u8),
    HalfClose,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The service closed it, between packets.
    Closed,
    /// The service closed it within a packet, or it broke.
    Broken(ErrorKind),
}

/// A client's end.
#[derive(Debug)]
pub struct Line {
    stream: Stream,
    out: VecDeque<Item>,
    /// No write is longer than this.
    pub portion: usize,
    /// Whether what comes is read.
    pub reads: bool,
    input: Vec<u8>,
    /// Whether anything came at all: the service may never have accepted a connection that the kernel did.
    pub is_accepted: bool,
    pub end: Option<End>,
    /// What is sent as a descriptor.
    spare: File,
    pumped: Instant,
    /// The longest time that this client was not looked after: its thread was not scheduled.
    pub neglected: Duration,
    read_at: Instant,
    /// The longest time in which nothing was read, on purpose or not.
    pub unread: Duration,
}

impl Line {
    pub fn connect(address: &Address) -> io::Result<Self> {
        let stream = match address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                Stream::Unix(stream)
            }
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port))?;
                stream.set_nonblocking(true)?;
                Stream::Tcp(stream)
            }
            other => panic!("{other} is not used here"),
        };
        Ok(Self {
            stream,
            out: VecDeque::new(),
            portion: usize::MAX,
            reads: true,
            input: Vec::new(),
            is_accepted: false,
            end: None,
            spare: File::open("/dev/null")?,
            pumped: Instant::now(),
            neglected: Duration::ZERO,
            read_at: Instant::now(),
            unread: Duration::ZERO,
        })
    }

    pub fn is_unix(&self) -> bool {
        matches!(self.stream, Stream::Unix(_))
    }

    pub fn send(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.out.push_back(Item::Bytes(bytes, 0));
        }
    }

    /// Sends one byte with a descriptor; over TCP without.
    pub fn send_carrier(&mut self, byte: u8) {
        match self.stream {
            Stream::Unix(_) => self.out.push_back(Item::Carrier(byte)),
            Stream::Tcp(_) => self.send(vec![byte]),
        }
    }

    /// Tells the service, behind what is sent already, that no more comes.
    pub fn half_close(&mut self) {
        self.out.push_back(Item::HalfClose);
    }

    /// Sends nothing of what has not left yet.
    pub fn forget_output(&mut self) {
        self.out.clear();
    }

    pub fn has_sent_all(&self) -> bool {
        self.out.is_empty()
    }

    /// Has the end of a TCP connection be a reset.
    pub fn reset_at_end(&self) {
        if let Stream::Tcp(stream) = &self.stream {
            rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
        }
    }

    /// Writes what can be written and reads what is there, for at most this long; returns as soon as packets came, all
    /// is sent with nothing to wait for, or the connection has ended.
    pub fn pump(&mut self, wait: Duration) -> Vec<Packet> {
        let until = Instant::now() + wait;
        self.neglected = self.neglected.max(self.pumped.elapsed());
        let mut packets = Vec::new();
        loop {
            let wrote = self.write();
            let read = self.read(&mut packets);
            let now = Instant::now();
            self.pumped = now;
            if self.end.is_some() || !packets.is_empty() || now >= until {
                return packets;
            }
            if wrote || read {
                continue;
            }
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, self.reads);
            flags.set(PollFlags::OUT, !self.out.is_empty());
            let left = until - now;
            let left = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos().into() };
            match flags.is_empty() {
                // A hang-up would wake it at once, again and again.
                true => std::thread::sleep(until - now),
                false => drop(poll(&mut [PollFd::new(&self.as_fd(), flags)], Some(&left))),
            }
            self.neglected = self.neglected.max(until.elapsed());
        }
    }

    /// Writes one portion. Whether it could.
    fn write(&mut self) -> bool {
        let Some(item) = self.out.front_mut() else { return false };
        let done = match item {
            Item::Bytes(bytes, sent) => {
                let rest = &bytes[*sent..];
                let rest = &rest[..rest.len().min(self.portion)];
                let wrote = match &mut self.stream {
                    Stream::Unix(stream) => stream.write(rest),
                    Stream::Tcp(stream) => stream.write(rest),
                };
                wrote.map(|wrote| {
                    *sent += wrote;
                    *sent == bytes.len()
                })
            }
            Item::Carrier(byte) => {
                let Stream::Unix(stream) = &self.stream else { unreachable!("it was sent as a byte") };
                let fds = [self.spare.as_fd()];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
                let sent = sendmsg(stream, &[IoSlice::new(&[*byte])], &mut control, SendFlags::NOSIGNAL);
                sent.map(|_| true).map_err(io::Error::from)
            }
            Item::HalfClose => {
                let shut = match &self.stream {
                    Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
                    Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
                };
                // The service may have ended the connection first; reading tells.
                drop(shut);
                Ok(true)
            }
        };
        match done {
            Ok(done) => {
                if done {
                    self.out.pop_front();
                }
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => false,
            Err(_) => {
                // Nothing more can be sent. What is still to be read says why.
                self.out.clear();
                false
            }
        }
    }

    /// Reads once. Whether anything came.
    fn read(&mut self, packets: &mut Vec<Packet>) -> bool {
        if !self.reads || self.end.is_some() {
            return false;
        }
        let now = Instant::now();
        self.unread = self.unread.max(now - std::mem::replace(&mut self.read_at, now));
        let mut buffer = [0; 64 * 1024];
        let read = match &mut self.stream {
            Stream::Unix(stream) => stream.read(&mut buffer),
            Stream::Tcp(stream) => stream.read(&mut buffer),
        };
        match read {
            Ok(0) if self.input.is_empty() => self.end = Some(End::Closed),
            Ok(0) => self.end = Some(End::Broken(ErrorKind::UnexpectedEof)),
            Ok(read) => {
                self.is_accepted = true;
                self.input.extend_from_slice(&buffer[..read]);
                self.split(packets);
                return true;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => self.end = Some(End::Broken(error.kind())),
        }
        false
    }

    fn split(&mut self, packets: &mut Vec<Packet>) {
        let mut at = 0;
        loop {
            let rest = &self.input[at..];
            // No packet of the service is as long as these would have it; and one who speaks in messages, and was turned
            // away before anything was read of it, is told so in a packet.
            let (packet, length) = if let Some(0x93 | 0x94) = rest.first() {
                let Some(whole) = messages::read(rest) else { break };
                whole
            } else {
                let Some(head) = rest.first_chunk::<HEADER_LEN>() else { break };
                let (length, header) = Header::decode(head);
                assert!(length as usize >= HEADER_LEN, "the service sent a length of {length}");
                let Some(whole) = rest.get(..length as usize) else { break };
                (Packet { header, payload: whole[HEADER_LEN..].to_vec() }, length as usize)
            };
            packets.push(packet);
            at += length;
        }
        self.input.drain(..at);
        if self.input.is_empty() {
            self.input = Vec::new();
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tcp(stream) => stream.as_fd(),
        }
    }
}
