//! Clients that speak a wire and do no needless work: one thread, one event loop, one read and one write for all that a
//! connection has to say. Requests are made from a template; of a reply its head is looked at and its body is skipped.
//!
//! The bound of each queue: a connection has as many calls under way as the plan's depth.

mod output;

use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::idle::Idle;
use super::{Measured, Outcome, Plan, Tally, calls};
use crate::Result;
use crate::case::Case;
use output::Output;

/// What is read at once. It stays in the processor's cache.
const BUFFER: usize = 256 * 1024;
/// A head of a reply is shorter than this.
const LONGEST_HEAD: usize = 4096;
const EVENTS: usize = 1024;
/// How long the loop sleeps at most, to see that the time is over.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// How calls and replies look. `request` and `number` see to it that a reply can be told by its serial number, or that
/// replies come in order.
pub trait Wire {
    /// What is sent before the first call.
    fn greeting(&self, _connection: usize) -> Vec<u8> {
        Vec::new()
    }

    /// A call, without its number.
    fn request(&self, connection: usize) -> Vec<u8>;

    /// Gives the call its number.
    fn number(&self, request: &mut [u8], serial: u32);

    /// The answer to a ping of the server's.
    fn pong(&self) -> &'static [u8] {
        &[]
    }

    /// What the input begins with; none while not enough of it is there to say so. Anything but a good reply of the
    /// right length is an error.
    fn input(&self, input: &[u8]) -> Result<Option<Input>>;
}

/// What came in.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// Of all its bytes, whether they are there already or not.
    pub len: usize,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// The reply to the call of this number.
    Reply(u32),
    /// The reply to the oldest call.
    NextReply,
    /// The server wants to know whether anybody is there.
    Ping,
    /// Something else, which is skipped.
    Other,
}

/// Where connections go.
#[derive(Clone, Copy)]
pub enum Transport {
    Unix,
    Tcp,
}

impl Transport {
    fn connect(self, address: &str) -> Result<OwnedFd> {
        let fd = match self {
            Transport::Unix => OwnedFd::from(UnixStream::connect(address)?),
            Transport::Tcp => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                OwnedFd::from(stream)
            }
        };
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(fd)
    }
}

pub fn run(plan: &Plan, transport: Transport, wire: &impl Wire) -> Result<Outcome> {
    match plan.case {
        Case::Load(_) => load(plan, transport, wire),
        Case::Idle(n_clients) => idle(plan, transport, wire, n_clients),
    }
}

fn load(plan: &Plan, transport: Transport, wire: &impl Wire) -> Result<Outcome> {
    let shape = plan.shape();
    let mut client = Client::new(wire, transport, &plan.address)?;
    client.connect(shape.connections, shape.depth)?;
    Ok(Outcome::Load(client.measure(0..shape.connections, plan)?))
}

fn idle(plan: &Plan, transport: Transport, wire: &impl Wire, n_clients: usize) -> Result<Outcome> {
    calls::on_one_thread(async {
        let mut client = Client::new(wire, transport, &plan.address)?;
        client.connect(1, 1)?;
        Idle::warm_up(async || client.call_each(0..1)).await?;
        let idle = Idle::begin(plan).await?;
        client.connect(n_clients, 1)?;
        let idle = idle.connected(plan).await?;
        client.call_each(1..n_clients + 1)?;
        idle.end(plan, n_clients).await
    })
}

/// All connections.
pub struct Client<'a, W> {
    wire: &'a W,
    transport: Transport,
    address: String,
    poller: OwnedFd,
    connections: Vec<Connection>,
    events: Vec<epoll::Event>,
    /// What a read fills, behind what the last one of the same connection left.
    buffer: Vec<u8>,
    tally: Tally,
    /// Whether each reply is followed by the next call.
    goes_on: bool,
    n_replies: usize,
}

struct Connection {
    fd: OwnedFd,
    output: Output,
    /// The beginning of a head.
    rest: Vec<u8>,
    /// How much of a body is still to come, and what it is part of.
    skip: usize,
    kind: Kind,
    slots: Vec<Slot>,
    /// The number of the oldest call, where replies come in order.
    oldest: u32,
    waits_to_write: bool,
}

/// The call under way in it, or the next one: its number, modulo the depth, is the slot's.
#[derive(Clone, Copy)]
struct Slot {
    serial: u32,
    sent: Instant,
}

impl<'a, W: Wire> Client<'a, W> {
    pub fn new(wire: &'a W, transport: Transport, address: &str) -> Result<Self> {
        Ok(Self {
            wire,
            transport,
            address: address.to_owned(),
            poller: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: Vec::new(),
            events: Vec::with_capacity(EVENTS),
            buffer: vec![0; BUFFER + LONGEST_HEAD],
            tally: Tally::new()?,
            goes_on: false,
            n_replies: 0,
        })
    }

    /// So many connections more, each for as many calls at once.
    pub fn connect(&mut self, n_connections: usize, depth: usize) -> Result<()> {
        for _ in 0..n_connections {
            let fd = self.transport.connect(&self.address)?;
            let number = self.connections.len();
            epoll::add(&self.poller, &fd, EventData::new_u64(number as u64), EventFlags::IN)?;
            let now = Instant::now();
            let slots = (0..depth).map(|slot| Slot { serial: slot as u32, sent: now }).collect();
            let mut connection = Connection {
                fd,
                output: Output::new(self.wire.greeting(number), self.wire.request(number)),
                rest: Vec::new(),
                skip: 0,
                kind: Kind::Other,
                slots,
                oldest: 0,
                waits_to_write: false,
            };
            connection.write(&self.poller, number, self.wire)?;
            self.connections.push(connection);
        }
        Ok(())
    }

    /// One call in each slot of these connections.
    pub fn call(&mut self, connections: Range<usize>) -> Result<()> {
        for number in connections {
            let connection = &mut self.connections[number];
            let now = Instant::now();
            for slot in &mut connection.slots {
                slot.sent = now;
                connection.output.call(slot.serial);
            }
            connection.write(&self.poller, number, self.wire)?;
        }
        Ok(())
    }

    /// One call in each slot of these connections, one connection after the other, each when the last one is answered.
    pub fn call_each(&mut self, connections: Range<usize>) -> Result<()> {
        for number in connections {
            let expected = self.n_replies + self.connections[number].slots.len();
            self.call(number..number + 1)?;
            self.await_replies(expected)?;
        }
        Ok(())
    }

    /// These bytes, on a connection; what answers them is for the wire to know.
    pub fn say(&mut self, number: usize, bytes: &[u8]) -> Result<()> {
        let connection = &mut self.connections[number];
        connection.output.say(bytes);
        connection.write(&self.poller, number, self.wire)
    }

    /// Calls on these connections, each followed by the next, for as long as the plan says.
    pub fn measure(&mut self, connections: Range<usize>, plan: &Plan) -> Result<Measured> {
        self.goes_on = true;
        self.call(connections)?;
        let begins = Instant::now() + plan.warm_up;
        while Instant::now() < begins {
            self.turn()?;
        }
        let window = self.tally.begin(plan)?;
        let ends = Instant::now() + plan.time;
        while Instant::now() < ends {
            self.turn()?;
        }
        self.tally.end(plan, window)
    }

    /// Until so many calls have been answered.
    pub fn await_replies(&mut self, n_replies: usize) -> Result<()> {
        while self.n_replies < n_replies {
            self.turn()?;
        }
        Ok(())
    }

    /// Until sockets have taken all calls.
    pub fn await_written(&mut self) -> Result<()> {
        while self.connections.iter().any(|connection| connection.waits_to_write) {
            self.turn()?;
        }
        Ok(())
    }

    /// All that is ready now, or soon.
    pub fn turn(&mut self) -> Result<()> {
        self.events.clear();
        match epoll::wait(&self.poller, spare_capacity(&mut self.events), Some(&TURN)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let number = event.data.u64() as usize;
            let connection = &mut self.connections[number];
            // The event is packed: its parts are copied before they are asked.
            let flags = event.flags;
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                self.n_replies += connection.read(&mut self.buffer, self.wire, &self.tally, self.goes_on)?;
            }
            connection.write(&self.poller, number, self.wire)?;
        }
        Ok(())
    }
}

impl Connection {
    /// One read, and what it brought.
    fn read(&mut self, buffer: &mut [u8], wire: &impl Wire, tally: &Tally, goes_on: bool) -> Result<usize> {
        let n_rest = self.rest.len();
        let n_read = match rustix::io::read(&self.fd, &mut buffer[n_rest..n_rest + BUFFER]) {
            Ok(0) => return Err("the server closed a connection".into()),
            Ok(n_read) => n_read,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let now = Instant::now();
        buffer[..n_rest].copy_from_slice(&self.rest);
        self.rest.clear();
        let mut input = &buffer[..n_rest + n_read];
        let mut n_replies = 0;
        loop {
            let skipped = self.skip.min(input.len());
            self.skip -= skipped;
            input = &input[skipped..];
            if self.skip > 0 {
                break;
            }
            match std::mem::replace(&mut self.kind, Kind::Other) {
                Kind::Other => {}
                Kind::Ping => self.output.say(wire.pong()),
                Kind::Reply(serial) => {
                    self.answered(serial, now, tally, goes_on)?;
                    n_replies += 1;
                }
                Kind::NextReply => {
                    let serial = self.oldest;
                    self.oldest = serial.wrapping_add(1);
                    self.answered(serial, now, tally, goes_on)?;
                    n_replies += 1;
                }
            }
            match wire.input(input)? {
                Some(found) => (self.skip, self.kind) = (found.len, found.kind),
                None if input.len() >= LONGEST_HEAD => return Err("a reply has a head without end".into()),
                None => {
                    self.rest.extend_from_slice(input);
                    break;
                }
            }
        }
        Ok(n_replies)
    }

    /// The call of this number is answered; its slot makes the next one.
    #[inline]
    fn answered(&mut self, serial: u32, now: Instant, tally: &Tally, goes_on: bool) -> Result<()> {
        let depth = self.slots.len() as u32;
        let slot = &mut self.slots[(serial % depth) as usize];
        if slot.serial != serial {
            return Err(format!("a reply to call {serial}, where {} is under way", slot.serial).into());
        }
        tally.answered(slot.sent, now);
        // Numbers do not come round: a run is seconds, and there are four thousand million.
        *slot = Slot { serial: serial.wrapping_add(depth), sent: now };
        if goes_on {
            self.output.call(slot.serial);
        }
        Ok(())
    }

    /// Writes what the socket takes, and waits for it only if that is not all.
    fn write(&mut self, poller: &OwnedFd, number: usize, wire: &impl Wire) -> Result<()> {
        let waits = loop {
            let bytes = self.output.bytes(wire);
            if bytes.is_empty() {
                break false;
            }
            match rustix::io::write(&self.fd, bytes) {
                Ok(n_written) => self.output.written(n_written),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break true,
                Err(error) => return Err(error.into()),
            }
        };
        if waits != self.waits_to_write {
            self.waits_to_write = waits;
            let flags = if waits { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(poller, &self.fd, EventData::new_u64(number as u64), flags)?;
        }
        Ok(())
    }
}
