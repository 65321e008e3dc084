//! What the threads of a service do for calls: a hub and a worker, woken one after the other on this thread.
//!
//! Everything is the service's own, from the read on the socket to the write; the system calls are made too, but nobody
//! counts the kernel's instructions. What a thread does when it is woken for nothing is a part of its own, to be taken
//! off the others.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use postroom_actors::bench::Rig;
use postroom_protocol::{Splitter, Status, Step, keepalive};

use crate::echo::{self, ECHO, QUICK};
use crate::protocol::{arguments, call};
use crate::{Body, Part};

pub const PARTS: [Part; 15] = [
    part("hub: is woken for nothing", 1, || round(Share::Nothing, 1, 1)),
    part("hub: pings, 1", 1, || round(Share::Ping, 1, 1)),
    part("hub: pings, 64 of one client", 64, || round(Share::Ping, 1, 64)),
    part("hub: inline calls, 1", 1, || round(Share::Inline, 1, 1)),
    part("hub: inline calls, 64 of one client", 64, || round(Share::Inline, 1, 64)),
    part("hub: inline calls, 4 of each of 16 clients", 64, || round(Share::Inline, 16, 4)),
    part("hub: calls to an idle worker, 1", 1, || round(Share::HandOver, 1, 1)),
    part("hub: calls to an idle worker, 64 of one client", 64, || round(Share::HandOver, 1, 64)),
    part("hub: calls to an idle worker, 4 of each of 16 clients", 64, || round(Share::HandOver, 16, 4)),
    part("hub: calls to a worker at work, 1", 1, || round(Share::Offer, 1, 1)),
    part("hub: calls to a worker at work, 64 of one client", 64, || round(Share::Offer, 1, 64)),
    part("worker: runs and writes calls, 1", 1, || round(Share::Work, 1, 1)),
    part("worker: runs and writes calls, 64 of one client", 64, || round(Share::Work, 1, 64)),
    part("worker: runs calls, 4 of each of 16 clients", 64, || round(Share::Work, 16, 4)),
    part("hub: writes for the worker, 4 to each of 16 clients", 64, || round(Share::Replies, 16, 4)),
];

/// The share of a round that is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Share {
    /// The hub is woken, and nothing has come.
    Nothing,
    /// The hub reads pings and answers them.
    Ping,
    /// The hub reads calls, runs them and writes the replies.
    Inline,
    /// The hub reads calls and gives them to a worker that has nothing to do.
    HandOver,
    /// The hub reads calls and gives them to a worker that has a call already and has not come to it.
    Offer,
    /// The worker runs what it was given.
    Work,
    /// The hub takes and writes what the worker has answered.
    Replies,
}

const fn part(name: &'static str, units: u32, body: fn() -> Box<dyn Body>) -> Part {
    Part { name, units, body }
}

struct Round {
    share: Share,
    rig: Rig,
    clients: Vec<Client>,
}

/// One end of a connection.
struct Client {
    stream: UnixStream,
    /// What it sends in each round, in one write.
    sends: Vec<u8>,
    /// What it sends ahead, for a worker to be at work.
    ahead: Vec<u8>,
    /// How many packets it is sent.
    expects: usize,
    splitter: Splitter,
}

fn round(share: Share, clients: usize, calls: u32) -> Box<dyn Body> {
    let rig = Rig::new(vec![echo::program()]).expect("there are descriptors");
    let clients = (0..clients).map(|_| Client::new(&rig, share, calls)).collect();
    Box::new(Round { share, rig, clients })
}

impl Body for Round {
    fn before(&mut self) {
        if self.share == Share::Offer {
            self.clients.iter_mut().for_each(|client| client.send(|client| &client.ahead));
            self.rig.hub();
        }
        self.clients.iter_mut().for_each(|client| client.send(|client| &client.sends));
        if matches!(self.share, Share::Work | Share::Replies) {
            self.rig.hub();
        }
        if self.share == Share::Replies {
            self.rig.worker();
        }
    }

    #[inline]
    fn run(&mut self) {
        if self.share == Share::Work { self.rig.worker() } else { self.rig.hub() }
    }

    fn after(&mut self) -> bool {
        if matches!(self.share, Share::HandOver | Share::Offer) {
            self.rig.worker();
        }
        if self.clients.len() > 1 && matches!(self.share, Share::HandOver | Share::Work) {
            self.rig.hub();
        }
        let is_right = self.clients.iter_mut().all(Client::receive);
        // Not as it was meant: calls waited with the pool, because this process was held up for too long.
        while self.clients.iter().any(|client| client.expects > 0) {
            self.rig.settle();
            for client in &mut self.clients {
                client.receive();
            }
        }
        is_right
    }
}

impl Client {
    fn new(rig: &Rig, share: Share, calls: u32) -> Self {
        let stream = rig.connect().expect("there are descriptors");
        stream.set_nonblocking(true).expect("it is a socket");
        let packet = |serial| match share {
            Share::Nothing => Vec::new(),
            Share::Ping => keepalive::ping().to_vec(),
            Share::Inline => call(QUICK, serial, &arguments()),
            _ => call(ECHO, serial, &arguments()),
        };
        let sends = (0..calls).flat_map(packet).collect();
        let ahead = if share == Share::Offer { packet(calls) } else { Vec::new() };
        Self { stream, sends, ahead, expects: 0, splitter: Splitter::new(1 << 20) }
    }

    fn send(&mut self, what: impl Fn(&Self) -> &Vec<u8>) {
        let bytes = what(self);
        let mut packets = 0;
        for_each_packet(&mut Splitter::new(1 << 20), bytes, || packets += 1);
        (&self.stream).write_all(bytes).expect("the socket takes it");
        self.expects += packets;
    }

    /// Reads what there is. Whether it was all that is to come.
    fn receive(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        while self.expects > 0 {
            match (&self.stream).read(&mut buffer) {
                Ok(0) => panic!("the service has closed the connection"),
                Ok(bytes) => for_each_packet(&mut self.splitter, &buffer[..bytes], || self.expects -= 1),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => panic!("{error}"),
            }
        }
        true
    }
}

/// None of which is an error.
fn for_each_packet(splitter: &mut Splitter, mut bytes: &[u8], mut seen: impl FnMut()) {
    while let Step::Packet(packet) = splitter.next(&mut bytes, 0).expect("the stream is sound") {
        assert_eq!(packet.header.status, Status::Ok, "{:?}", &*packet.payload);
        seen();
    }
}
