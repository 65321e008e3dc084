//! So many calls to a service, over so many connections, each with so many under way: for what counts something there.
//! `load SOCKET PROCEDURE CONNECTIONS DEPTH CALLS` makes CALLS calls of 32 bytes in all, each followed by the next when
//! it is answered, and ends. One thread, one read and one write for all that a connection has to say.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use postroom_bench_micro::protocol::{arguments, call};
use postroom_protocol::{PacketType, Splitter, Status, Step, keepalive};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Connection {
    stream: UnixStream,
    splitter: Splitter,
    /// What is to be written.
    output: Vec<u8>,
    /// How many calls are to be made yet.
    left: u64,
}

fn main() -> ExitCode {
    match load() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn load() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, procedure, connections, depth, calls] = &arguments[..] else {
        return Err("usage: load SOCKET PROCEDURE CONNECTIONS DEPTH CALLS".into());
    };
    let (procedure, connections) = (procedure.parse()?, connections.parse::<usize>()?);
    let (depth, calls) = (depth.parse::<u64>()?, calls.parse::<u64>()?);
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut all = Vec::new();
    for number in 0..connections {
        let stream = UnixStream::connect(socket)?;
        stream.set_nonblocking(true)?;
        epoll::add(&poller, &stream, EventData::new_u64(number as u64), EventFlags::IN)?;
        let left = calls / connections as u64;
        let mut connection = Connection { stream, splitter: Splitter::new(1 << 20), output: Vec::new(), left };
        connection.call(procedure, depth);
        all.push(connection);
    }
    // All are connected before the first of them calls.
    for connection in &mut all {
        connection.write()?;
    }
    let mut unanswered = calls / connections as u64 * connections as u64;
    let mut buffer = vec![0; 64 * 1024];
    let mut events = Vec::with_capacity(connections);
    while unanswered > 0 {
        events.clear();
        match epoll::wait(&poller, spare_capacity(&mut events), None) {
            // By a stop of the process, for one.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let data = event.data;
            let connection = &mut all[data.u64() as usize];
            let answered = connection.read(&mut buffer)?;
            unanswered -= answered;
            connection.call(procedure, answered);
            connection.write()?;
        }
    }
    Ok(())
}

impl Connection {
    /// So many calls more, as far as any are left.
    fn call(&mut self, procedure: i32, calls: u64) {
        for _ in 0..calls.min(self.left) {
            // Unique among those under way.
            self.output.extend(call(procedure, self.left as u32, &arguments()));
            self.left -= 1;
        }
    }

    /// Reads once. Returns how many calls were answered.
    fn read(&mut self, buffer: &mut [u8]) -> Result<u64> {
        let bytes = match (&self.stream).read(buffer) {
            Ok(0) => return Err("the service has closed the connection".into()),
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let (mut input, mut answered) = (&buffer[..bytes], 0);
        while let Step::Packet(packet) = self.splitter.next(&mut input, 0)? {
            match (packet.header.packet_type, packet.header.status) {
                (PacketType::Reply, Status::Ok) => answered += 1,
                (PacketType::Reply, _) => return Err(String::from_utf8_lossy(&packet.payload).into()),
                // Nobody who calls all the time is pinged, but one who is held up may be.
                _ if keepalive::classify(&packet.header).is_some() => self.output.extend(keepalive::pong()),
                _ => {}
            }
        }
        Ok(answered)
    }

    /// Writes all there is, which the socket takes: it is no more than was under way before.
    fn write(&mut self) -> Result<()> {
        if !self.output.is_empty() {
            (&self.stream).write_all(&self.output)?;
            self.output.clear();
        }
        Ok(())
    }
}
