//! Bytes to packets, packets to values, and back.

use std::collections::BTreeMap;
use std::hint::black_box;

use postroom_protocol::{HEADER_LEN, Header, PacketType, Splitter, Status, Step, codec, packet};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::echo::{ECHO, PROGRAM, Parcel, VERSION};
use crate::{Body, Part};

/// How often a round does what is small.
const TIMES: u32 = 64;
const MAX_PACKET: u32 = 32 << 20;
/// What a reader reads at once.
const READ: usize = 64 * 1024;

pub const PARTS: [Part; 10] = [
    part("split packets of one read", TIMES, || split(Splits::new(calls(), &[usize::MAX]))),
    part("split packets cut anywhere", TIMES, || split(Splits::new(calls(), &[1, 61, 7, 30, 113, 3, 28, 90, 250, 17]))),
    part("split a packet of 1 MiB", 1, || split(Splits::new(call(ECHO, 0, &vec![0; 1 << 20]), &[READ]))),
    part("decode a header", TIMES, || repeat(&header(ECHO, 1).encode(100), |bytes| consume(Header::decode(bytes)))),
    part("encode a header", TIMES, || repeat(&header(ECHO, 1), |header| consume(header.encode(100)))),
    part("decode arguments, 32 bytes", TIMES, || decode(&Parcel::small())),
    part("decode arguments, a record", TIMES, || decode(&Record::new())),
    part("encode a result, 32 bytes", TIMES, || encode(Parcel::small())),
    part("encode a result, a record", TIMES, || encode(Record::new())),
    part("encode a reply, 32 bytes", TIMES, || reply(Parcel::small())),
];

const fn part(name: &'static str, units: u32, body: fn() -> Box<dyn Body>) -> Part {
    Part { name, units, body }
}

/// A call's packet.
pub fn call(procedure: i32, serial: u32, payload: &[u8]) -> Vec<u8> {
    let mut call = Vec::new();
    packet::encode_packet(&header(procedure, serial), payload, &mut call);
    call
}

/// The arguments of most calls of the benchmarks.
pub fn arguments() -> Vec<u8> {
    encoded(&Parcel::small())
}

fn header(procedure: i32, serial: u32) -> Header {
    let (program, version, packet_type, status) = (PROGRAM, VERSION, PacketType::Call, Status::Ok);
    Header { program, version, procedure, packet_type, serial, status }
}

fn calls() -> Vec<u8> {
    (0..TIMES).flat_map(|serial| call(ECHO, serial, &arguments())).collect()
}

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes).expect("it encodes");
    bytes
}

/// More than bytes: what a program with a structure of its own would send.
#[derive(Serialize, Deserialize)]
struct Record {
    name: String,
    uuid: String,
    state: Option<u8>,
    memory: u64,
    processors: u32,
    load: f64,
    running: bool,
    tags: Vec<String>,
    devices: Vec<Device>,
    metadata: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Device {
    name: String,
    slot: u16,
    read: u64,
    written: u64,
}

impl Record {
    fn new() -> Self {
        let device = |slot| Device { name: format!("disk {slot}"), slot, read: 1 << 33, written: 12_345 };
        Self {
            name: "a machine".to_owned(),
            uuid: "c7a5fdbd-edaf-9455-926a-d65c16db1809".to_owned(),
            state: Some(1),
            memory: 8 << 30,
            processors: 4,
            load: 0.25,
            running: true,
            tags: ["production", "web", "eu"].map(str::to_owned).into(),
            devices: (0..4).map(device).collect(),
            metadata: [("owner", "somebody"), ("cost", "low")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        }
    }
}

/// Splits a stream that comes in portions of these sizes.
struct Splits {
    stream: Vec<u8>,
    portions: Vec<std::ops::Range<usize>>,
    splitter: Splitter,
}

impl Splits {
    fn new(stream: Vec<u8>, sizes: &[usize]) -> Self {
        let mut portions = Vec::new();
        let mut start: usize = 0;
        for size in sizes.iter().cycle() {
            let end = stream.len().min(start.saturating_add(*size));
            portions.push(start..end);
            start = end;
            if start == stream.len() {
                break;
            }
        }
        Self { stream, portions, splitter: Splitter::new(MAX_PACKET) }
    }
}

/// As a reader does: into the packet itself where there is room for it, which a read fills.
impl Body for Splits {
    fn run(&mut self) {
        for portion in &self.portions {
            let mut read = &self.stream[portion.clone()];
            while !read.is_empty() {
                let mut input = read;
                if let Some(room) = self.splitter.room() {
                    let length = room.len().min(read.len());
                    room[..length].copy_from_slice(&read[..length]);
                    self.splitter.filled(length);
                    (input, read) = (&[], &read[length..]);
                } else {
                    read = &[];
                }
                while let Step::Packet(packet) = self.splitter.next(&mut input, 0).expect("the stream is sound") {
                    black_box((&packet.header, &*packet.payload));
                }
            }
        }
    }

    fn after(&mut self) -> bool {
        !self.splitter.is_mid_packet()
    }
}

fn split(splits: Splits) -> Box<dyn Body> {
    Box::new(splits)
}

/// Somebody might need it.
fn consume<T>(value: T) {
    black_box(value);
}

/// Does something with the same value, over and over.
struct Repeat<T, F>(T, F);

impl<T, F: FnMut(&T)> Body for Repeat<T, F> {
    fn run(&mut self) {
        for _ in 0..TIMES {
            (self.1)(black_box(&self.0));
        }
    }
}

fn repeat<T: Clone + 'static>(value: &T, action: impl FnMut(&T) + 'static) -> Box<dyn Body> {
    Box::new(Repeat(value.clone(), action))
}

fn decode<T: Serialize + DeserializeOwned>(value: &T) -> Box<dyn Body> {
    repeat(&encoded(value), |bytes| consume(codec::decode::<T>(bytes).expect("it was encoded here")))
}

fn encode<T: Serialize + 'static>(value: T) -> Box<dyn Body> {
    let mut out = Vec::new();
    Box::new(Repeat(value, move |value: &T| {
        out.clear();
        codec::encode(value, &mut out).expect("it encodes");
        black_box(&out);
    }))
}

/// A whole packet: the header, the result, and then the length.
fn reply<T: Serialize + 'static>(value: T) -> Box<dyn Body> {
    let mut out = Vec::with_capacity(HEADER_LEN);
    Box::new(Repeat(value, move |value: &T| {
        out.clear();
        let start = packet::begin(&black_box(header(ECHO, 1)).reply(Status::Ok), &mut out);
        codec::encode(value, &mut out).expect("it encodes");
        packet::finish(start, &mut out);
        black_box(&out);
    }))
}
