//! Postroom: the service as it is by default, with its program `echo`, called over its wire and by its own client.

use postroom::client::{Client, Procedure};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes as Borrowed};

use super::{Place, Server};
use crate::Result;
use crate::isolation::HELD;
use crate::load::calls::{self, Caller};
use crate::load::raw::{self, Input, Kind, Transport, Wire};
use crate::load::{Outcome, Plan, check_len};
use crate::process::{Role, await_socket, spawn};

/// The procedure that holds its thread for as long as it is told.
const BLOCK: i32 = 4;
const ECHO: u32 = 0x6563_686f;
const VERSION: u32 = 1;
const HEAD: usize = 28;
const SERIAL: usize = 20;
const KEEPALIVE: u32 = 0x6b65_6570;
const REPLY: u32 = 1;
const OK: u32 = 0;

/// From either side. Who sends one is pinged from then on when it is silent.
pub const PING: [u8; HEAD] = keepalive(1);
const PONG: [u8; HEAD] = keepalive(2);

const fn keepalive(procedure: u8) -> [u8; HEAD] {
    let mut packet = [0; HEAD];
    packet[3] = HEAD as u8;
    [packet[4], packet[5], packet[6], packet[7]] = KEEPALIVE.to_be_bytes();
    packet[11] = 1;
    packet[15] = procedure;
    // An event.
    packet[19] = 2;
    packet
}

/// How the procedure runs that is called.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Class {
    /// `echo.quick`: at once, where the client is read.
    Inline,
    /// `echo.echo`: through the pool.
    Pool,
    /// `echo.mirror`: as a future.
    Async,
    /// `echo.nap`, for no time at all: through the pool, before others. It takes no bytes.
    Priority,
}

impl Class {
    fn procedure(self) -> i32 {
        match self {
            Class::Inline => 10,
            Class::Pool => 1,
            Class::Async => 2,
            Class::Priority => 9,
        }
    }
}

pub fn launch(place: &Place) -> Result<Server> {
    let program = place.postroom.as_ref().ok_or("there is no postroom to start")?;
    let socket = place.socket();
    let mut command = std::process::Command::new(program);
    command.arg("serve").arg("--log").arg("warn").arg("--listen").arg(format!("unix:{}", socket.display()));
    let mut server = spawn(command, Role::Server, place)?;
    await_socket(&socket, &mut server)?;
    Ok(Server::new(vec![server], socket.display().to_string()))
}

pub fn raw(plan: &Plan, class: Class) -> Result<Outcome> {
    raw::run(plan, Transport::Unix, &Packets::new(class, &plan.payload()))
}

/// Calls that block.
pub fn block(plan: &Plan) -> Result<Outcome> {
    let ms = u8::try_from(HELD.as_millis())?;
    raw::run(plan, Transport::Unix, &Packets::naps(BLOCK, ms))
}

/// Keepalive packets in place of calls.
pub fn ping(plan: &Plan) -> Result<Outcome> {
    raw::run(plan, Transport::Unix, &Pings)
}

struct Pings;

impl Wire for Pings {
    fn request(&self, _: usize) -> Vec<u8> {
        PING.to_vec()
    }

    fn number(&self, _: &mut [u8], _: u32) {}

    fn input(&self, input: &[u8]) -> Result<Option<Input>> {
        match input.first_chunk::<HEAD>() {
            None => Ok(None),
            Some(head) if *head == PONG => Ok(Some(Input { len: HEAD, kind: Kind::NextReply })),
            Some(head) => Err(format!("not the answer to a ping: {head:?}").into()),
        }
    }
}

/// Calls of Postroom's wire, all the same but for their numbers.
pub struct Packets {
    request: Vec<u8>,
    reply_len: usize,
}

impl Packets {
    pub fn new(class: Class, payload: &[u8]) -> Self {
        if class == Class::Priority {
            return Self::naps(class.procedure(), 0);
        }
        Self::echoes(ECHO, class.procedure(), payload)
    }

    /// Calls of a procedure of the program `echo` that takes its time: `nap`, or `block`.
    pub fn naps(procedure: i32, ms: u8) -> Self {
        let mut request = head(ECHO, procedure);
        request.extend_from_slice(b"\x81\xa2ms");
        // As one byte, whatever it is.
        request.extend_from_slice(&[0xcc, ms]);
        // It is answered with an empty map.
        Self { request: with_len(request), reply_len: HEAD + 1 }
    }

    /// Calls of a procedure that gives back what it is given.
    pub fn echoes(program: u32, procedure: i32, payload: &[u8]) -> Self {
        let mut request = head(program, procedure);
        // The service writes each number in as few bytes as it takes, so this one has eight at any rate.
        request.extend_from_slice(b"\x82\xa2id\xcf");
        request.extend_from_slice(&u64::MAX.to_be_bytes());
        request.extend_from_slice(b"\xa4data");
        match payload.len() {
            len @ ..=0xff => request.extend_from_slice(&[0xc4, len as u8]),
            len @ ..=0xffff => {
                request.push(0xc5);
                request.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                request.push(0xc6);
                request.extend_from_slice(&(len as u32).to_be_bytes());
            }
        }
        request.extend_from_slice(payload);
        let request = with_len(request);
        Self { reply_len: request.len(), request }
    }
}

fn head(program: u32, procedure: i32) -> Vec<u8> {
    let words = [0, program, VERSION, procedure as u32, 0, 0, 0];
    words.into_iter().flat_map(u32::to_be_bytes).collect()
}

fn with_len(mut packet: Vec<u8>) -> Vec<u8> {
    let len = packet.len() as u32;
    packet[..4].copy_from_slice(&len.to_be_bytes());
    packet
}

impl Wire for Packets {
    fn request(&self, _: usize) -> Vec<u8> {
        self.request.clone()
    }

    fn number(&self, request: &mut [u8], serial: u32) {
        request[SERIAL..SERIAL + 4].copy_from_slice(&serial.to_be_bytes());
    }

    fn pong(&self) -> &'static [u8] {
        &PONG
    }

    fn input(&self, input: &[u8]) -> Result<Option<Input>> {
        let Some(head) = input.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let len = word(0) as usize;
        if word(4) == KEEPALIVE {
            let kind = if head[..] == PING { Kind::Ping } else { Kind::Other };
            return Ok(Some(Input { len, kind }));
        }
        if word(16) != REPLY || word(24) != OK {
            let shown = String::from_utf8_lossy(&input[..input.len().min(len).min(300)]);
            return Err(format!("not a good reply: {shown}").into());
        }
        check_len(len, self.reply_len)?;
        Ok(Some(Input { len, kind: Kind::Reply(word(SERIAL)) }))
    }
}

#[derive(Serialize)]
struct Request<'a> {
    id: u64,
    data: &'a Borrowed,
}

#[derive(Deserialize)]
struct Reply {
    id: u64,
    data: ByteBuf,
}

#[derive(Serialize)]
struct Nap {
    ms: u64,
}

#[derive(Deserialize)]
struct Done {}

pub fn own(plan: &Plan, class: Class) -> Result<Outcome> {
    let procedure = Procedure::new(ECHO, VERSION, class.procedure());
    let address = format!("unix:{}", plan.address);
    calls::run(plan, || async { Ok(Calling { client: Client::connect(address.as_str()).await?, class, procedure }) })
}

#[derive(Clone)]
struct Calling {
    client: Client,
    class: Class,
    procedure: Procedure,
}

impl Caller for Calling {
    async fn call(&self, id: u64, data: &bytes::Bytes) -> Result<(u64, usize)> {
        if self.class == Class::Priority {
            let Done {} = self.client.call(self.procedure, &Nap { ms: 0 }).await?;
            return Ok((id, data.len()));
        }
        let request = Request { id, data: Borrowed::new(data) };
        let reply: Reply = self.client.call(self.procedure, &request).await?;
        Ok((reply.id, reply.data.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_says_how_long_it_is_and_its_reply_is_told_by_its_number() {
        for size in [0, 32, 255, 256, 4096, 65535, 65536, 1 << 20] {
            let packets = Packets::new(Class::Pool, &vec![1; size]);
            let mut packet = packets.request(0);
            assert_eq!(packet[..4], (packet.len() as u32).to_be_bytes());
            packets.number(&mut packet, 77);
            assert!(packets.input(&packet).is_err(), "a call is no reply");
            packet[19] = 1;
            for n_bytes in 0..HEAD {
                assert!(packets.input(&packet[..n_bytes]).unwrap().is_none());
            }
            let input = packets.input(&packet).unwrap().unwrap();
            assert_eq!(input.len, packet.len());
            assert!(matches!(input.kind, Kind::Reply(77)));
        }
    }

    #[test]
    fn an_error_and_a_reply_of_another_length_are_refused() {
        let packets = Packets::new(Class::Inline, &[1; 32]);
        let mut packet = packets.request(0);
        packet[19] = 1;
        packet[27] = 1;
        assert!(packets.input(&packet).is_err());
        packet[27] = 0;
        packet[3] += 1;
        assert!(packets.input(&packet).is_err());
    }
}
