//! A raw client: blocking sockets, bytes in and out, nothing hidden. Every wait on it ends within `PATIENCE`.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use postroom::{Address, Error};
use postroom_protocol::{HEADER_LEN, Header, PacketType, Status, codec};
use rmpv::Value;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde::Serialize;

use super::PATIENCE;

/// The header of a call.
pub fn header(program: u32, version: u32, procedure: i32, serial: u32) -> Header {
    Header { program, version, procedure, packet_type: PacketType::Call, serial, status: Status::Ok }
}

/// A whole packet.
pub fn packet(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    postroom_protocol::packet::encode_packet(&header, payload, &mut out);
    out
}

/// A whole call of version 1 of a program.
pub fn call(program: u32, procedure: i32, serial: u32, payload: &[u8]) -> Vec<u8> {
    packet(header(program, 1, procedure, serial), payload)
}

/// Any value as MessagePack.
pub fn encode(value: &(impl Serialize + ?Sized)) -> Vec<u8> {
    let mut out = Vec::new();
    codec::encode(value, &mut out).unwrap();
    out
}

/// A map by field name.
pub fn map<const N: usize>(fields: [(&str, Value); N]) -> Vec<u8> {
    encode(&Value::Map(fields.into_iter().map(|(key, value)| (key.into(), value)).collect()))
}

/// The arguments of `echo.echo` and `echo.quick`.
pub fn parcel(id: u64, data: &[u8]) -> Vec<u8> {
    map([("id", id.into()), ("data", Value::Binary(data.to_vec()))])
}

/// A request of MessagePack-RPC.
pub fn request(msgid: u32, method: &str, params: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    postroom_protocol::rpc::encode::request(msgid, method, &encode(params), &mut out);
    out
}

/// A notification of MessagePack-RPC.
pub fn notification(method: &str, params: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    postroom_protocol::rpc::encode::notification(method, &encode(params), &mut out);
    out
}

/// One end of a pipe, to be sent as a descriptor; the other end is dropped or kept by the caller.
pub fn pipe_with<R>(body: impl FnOnce(BorrowedFd<'_>) -> R) -> (R, io::PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    (body(writer.as_fd()), reader)
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    pub header: Header,
    pub payload: Vec<u8>,
}

impl Packet {
    /// The result, of a reply that is one.
    #[track_caller]
    pub fn value(&self) -> Value {
        assert_eq!(self.header.packet_type, PacketType::Reply, "{self:?}");
        assert_eq!(self.header.status, Status::Ok, "{:?}", Error::decode(&self.payload));
        codec::decode(&self.payload).unwrap()
    }

    /// The error, of a reply that is one.
    #[track_caller]
    pub fn error(&self) -> Error {
        assert_eq!(self.header.packet_type, PacketType::Reply, "{self:?}");
        assert_eq!(self.header.status, Status::Error, "{self:?}");
        Error::decode(&self.payload).unwrap()
    }
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A client.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    /// What was read and not taken yet, and from where on.
    input: Vec<u8>,
    taken: usize,
}

impl Client {
    #[track_caller]
    pub fn connect(address: &Address) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    pub fn try_connect(address: &Address) -> io::Result<Self> {
        let stream = match address {
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
            Address::UnixAbstract(name) => {
                Stream::Unix(UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?)
            }
            Address::Tcp { host, port } => Stream::Tcp(TcpStream::connect((host.as_str(), *port))?),
        };
        Ok(Self::with(stream))
    }

    /// One that is connected already.
    #[allow(dead_code)] // Not by the storms of `fire`.
    pub fn of(socket: std::os::fd::OwnedFd) -> Self {
        Self::with(Stream::Unix(socket.into()))
    }

    fn with(stream: Stream) -> Self {
        let client = Self { stream, input: Vec::new(), taken: 0 };
        client.set_patience(PATIENCE);
        client
    }

    /// Sets for how long a read or a write waits, also those of the other handles to this socket.
    pub fn set_patience(&self, patience: Duration) {
        self.set_read_patience(patience);
        match &self.stream {
            Stream::Unix(stream) => stream.set_write_timeout(Some(patience)),
            Stream::Tcp(stream) => stream.set_write_timeout(Some(patience)),
        }
        .unwrap();
    }

    fn set_read_patience(&self, patience: Duration) {
        match &self.stream {
            Stream::Unix(stream) => stream.set_read_timeout(Some(patience)),
            Stream::Tcp(stream) => stream.set_read_timeout(Some(patience)),
        }
        .unwrap();
    }

    /// A second handle to the same socket, to write from another thread.
    pub fn writer(&self) -> Self {
        let stream = match &self.stream {
            Stream::Unix(stream) => Stream::Unix(stream.try_clone().unwrap()),
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone().unwrap()),
        };
        Self { stream, input: Vec::new(), taken: 0 }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Unix(stream) => stream.write_all(bytes),
            Stream::Tcp(stream) => stream.write_all(bytes),
        }
    }

    /// Sends bytes, the last of which carries these descriptors.
    #[track_caller]
    pub fn send_with_fds(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        let sent = rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(self.as_fd(), &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
        });
        assert_eq!(sent.unwrap(), bytes.len());
    }

    /// Tells the service that no more comes.
    pub fn half_close(&self) {
        match &self.stream {
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
        }
        .unwrap();
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match &mut self.stream {
                Stream::Unix(stream) => stream.read(buffer),
                Stream::Tcp(stream) => stream.read(buffer),
            };
            match read {
                // The process was stopped and went on: the kernel does not begin a wait with an end again by itself.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// So many bytes as they come, at most; none at the end of input. Not to be mixed with packets.
    #[track_caller]
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        assert!(self.input.is_empty(), "a part of a packet was read");
        let mut bytes = vec![0; most];
        let read = self.read(&mut bytes).unwrap_or_else(|error| panic!("no bytes: {error}"));
        bytes.truncate(read);
        bytes
    }

    /// The next packet; `None` at the end of input.
    pub fn try_packet(&mut self) -> io::Result<Option<Packet>> {
        loop {
            let input = &self.input[self.taken..];
            if let Some(head) = input.first_chunk::<HEADER_LEN>() {
                let (length, header) = Header::decode(head);
                assert!(length as usize >= HEADER_LEN, "the service sent a length of {length}");
                if let Some(whole) = input.get(..length as usize) {
                    let payload = whole[HEADER_LEN..].to_vec();
                    self.taken += length as usize;
                    if self.taken == self.input.len() {
                        self.input.clear();
                        self.taken = 0;
                    }
                    return Ok(Some(Packet { header, payload }));
                }
            }
            if self.taken > 0 {
                self.input.drain(..self.taken);
                self.taken = 0;
            }
            let mut buffer = [0; 64 * 1024];
            match self.read(&mut buffer)? {
                0 if self.input.is_empty() => return Ok(None),
                0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "within a packet")),
                read => self.input.extend_from_slice(&buffer[..read]),
            }
        }
    }

    #[track_caller]
    pub fn packet(&mut self) -> Packet {
        match self.try_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => panic!("the service closed the connection"),
            Err(error) => panic!("no packet: {error}"),
        }
    }

    /// The reply to the call with this serial, which has to come next.
    #[track_caller]
    pub fn reply(&mut self, serial: u32) -> Value {
        let packet = self.packet();
        assert_eq!(packet.header.serial, serial, "{packet:?}");
        packet.value()
    }

    /// The same for an error.
    #[track_caller]
    pub fn error(&mut self, serial: u32) -> Error {
        let packet = self.packet();
        assert_eq!(packet.header.serial, serial, "{packet:?}");
        packet.error()
    }

    /// The announced close, and the end behind it.
    #[track_caller]
    pub fn announcement(&mut self) -> Error {
        let packet = self.packet();
        assert_eq!(packet.header, Header::ANNOUNCEMENT, "{packet:?}");
        self.end();
        packet.error()
    }

    /// The same for a client that still sends, which the service puts up with for a second only: it may see a reset
    /// then, behind the announcement.
    #[track_caller]
    pub fn announcement_while_sending(&mut self) -> Error {
        let packet = self.packet();
        assert_eq!(packet.header, Header::ANNOUNCEMENT, "{packet:?}");
        match self.try_packet() {
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("expected the end, got {other:?}"),
        }
        packet.error()
    }

    /// The end of input, and nothing before it.
    #[track_caller]
    pub fn end(&mut self) {
        match self.try_packet() {
            Ok(None) => {}
            other => panic!("expected the end, got {other:?}"),
        }
    }

    /// Fails if anything comes within this time.
    #[track_caller]
    pub fn silence(&mut self, time: Duration) {
        self.set_read_patience(time);
        match self.try_packet() {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            other => panic!("expected nothing, got {other:?}"),
        }
        self.set_read_patience(PATIENCE);
    }

    /// Calls version 1 of a program and returns the result.
    #[track_caller]
    pub fn call(&mut self, program: u32, procedure: i32, payload: &[u8]) -> Value {
        self.send(&call(program, procedure, 0x0ca1_1ed0, payload));
        self.reply(0x0ca1_1ed0)
    }

    /// The same for a call that fails.
    #[track_caller]
    pub fn call_error(&mut self, program: u32, procedure: i32, payload: &[u8]) -> Error {
        self.send(&call(program, procedure, 0x0ca1_1ed0, payload));
        self.error(0x0ca1_1ed0)
    }

    /// Whether it is let in and answered. A service that gives newcomers a fraction of a second for their first packet
    /// may have told one before it had its turn.
    pub fn is_let_in(&mut self) -> bool {
        let sent = self.try_send(&call(super::ECHO, super::echo::MIRROR, 0x0ca1_1ed0, &encode("there")));
        sent.is_ok() && matches!(self.try_packet(), Ok(Some(packet)) if packet.header.serial == 0x0ca1_1ed0)
    }

    /// The next message of MessagePack-RPC; `None` at the end of input.
    pub fn try_message(&mut self) -> io::Result<Option<Value>> {
        loop {
            let mut rest = &self.input[self.taken..];
            let before = rest.len();
            if let Ok(message) = rmpv::decode::read_value(&mut rest) {
                self.taken += before - rest.len();
                return Ok(Some(message));
            }
            let mut buffer = [0; 64 * 1024];
            match self.read(&mut buffer)? {
                0 if before == 0 => return Ok(None),
                0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "within a message")),
                read => {
                    self.input.drain(..self.taken);
                    self.taken = 0;
                    self.input.extend_from_slice(&buffer[..read]);
                }
            }
        }
    }

    /// The next message, which has to be a response: its id, and its result or its error.
    #[track_caller]
    pub fn response(&mut self) -> (u64, Result<Value, Error>) {
        let message = match self.try_message() {
            Ok(Some(message)) => message,
            other => panic!("no message: {other:?}"),
        };
        let parts = message.as_array().unwrap_or_else(|| panic!("{message}"));
        let [kind, msgid, error, result] = &parts[..] else { panic!("no response: {message}") };
        assert_eq!(kind, &Value::from(1), "{message}");
        let msgid = msgid.as_u64().unwrap();
        if error.is_nil() {
            return (msgid, Ok(result.clone()));
        }
        assert!(result.is_nil(), "{message}");
        (msgid, Err(Error::decode(&encode(error)).unwrap()))
    }

    /// The result of the request with this id, which has to be answered next.
    #[track_caller]
    pub fn result_of(&mut self, msgid: u64) -> Value {
        match self.response() {
            (id, Ok(result)) if id == msgid => result,
            other => panic!("expected the result of {msgid}, got {other:?}"),
        }
    }

    /// The same for an error.
    #[track_caller]
    pub fn error_of(&mut self, msgid: u64) -> Error {
        match self.response() {
            (id, Err(error)) if id == msgid => error,
            other => panic!("expected an error for {msgid}, got {other:?}"),
        }
    }

    /// The announced close to a client that speaks MessagePack-RPC, and the end behind it.
    #[track_caller]
    pub fn close_message(&mut self) -> Error {
        let message = self.try_message().unwrap().expect("an announced close");
        let parts = message.as_array().unwrap_or_else(|| panic!("{message}"));
        let [kind, method, params] = &parts[..] else { panic!("no announced close: {message}") };
        assert_eq!((kind, method), (&Value::from(2), &Value::from("close")), "{message}");
        let [error] = &params.as_array().unwrap()[..] else { panic!("{message}") };
        self.end();
        Error::decode(&encode(error)).unwrap()
    }

    /// One round trip, to see that the connection is usable.
    #[track_caller]
    pub fn is_usable(&mut self) {
        let value = self.call(super::ECHO, super::echo::MIRROR, &encode("still there"));
        assert_eq!(value, Value::from("still there"));
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tcp(stream) => stream.as_fd(),
        }
    }
}
