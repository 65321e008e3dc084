//! NATS: request and reply through a broker, which has no Unix sockets. Three processes: the broker, a responder, and
//! the client; both of ours speak its text protocol and do nothing needless.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use super::{Place, Server, find_program, spawn_self};
use crate::Result;
use crate::load::raw::{self, Input, Kind, Transport, Wire};
use crate::load::{Outcome, Plan};
use crate::process::{Role, await_until, spawn};

pub const PROGRAM: &str = "nats-server";
pub const PACKAGE: &str = "apt-get install nats-server";

const SUBJECT: &str = "echo";
const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";
const BUFFER: usize = 256 * 1024;

pub fn launch(place: &Place, name: &str) -> Result<Server> {
    // The broker wants to be told a port: one that is free now.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new(find_program(PROGRAM).ok_or("there is no nats-server")?);
    command.args(["--addr", "127.0.0.1", "--port", &address.port().to_string()]);
    let mut broker = spawn(command, Role::Server, place)?;
    await_until(&mut broker, || TcpStream::connect(address).is_ok())?;
    let responder = spawn_self(place, name, &address.to_string())?;
    Ok(Server::new(vec![broker, responder], address.to_string()))
}

/// The responder: what one read brought is answered in one write.
pub fn serve(path: &Path, address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(format!("{CONNECT}SUB {SUBJECT} responders 1\r\nPING\r\n").as_bytes())?;
    // The broker has the subscription when it answers the ping; then this listens, which says that clients may come.
    let mut listener = None;
    let mut buffer = vec![0; BUFFER];
    let (mut input, mut output) = (Vec::new(), Vec::new());
    loop {
        let n_read = stream.read(&mut buffer)?;
        if n_read == 0 {
            return Ok(());
        }
        input.extend_from_slice(&buffer[..n_read]);
        let mut at = 0;
        while let Some(line) = line(&input[at..])? {
            let mut end = at + line.len() + 2;
            if line.starts_with("MSG ") {
                let message = message(line)?;
                let reply = message.reply.ok_or("a request that wants no reply")?;
                let payload = end;
                end += message.len + 2;
                if end > input.len() {
                    break;
                }
                output.extend_from_slice(format!("PUB {reply} {}\r\n", message.len).as_bytes());
                output.extend_from_slice(&input[payload..end]);
            } else if line == "PING" {
                output.extend_from_slice(b"PONG\r\n");
            } else if line == "PONG" && listener.is_none() {
                listener = Some(UnixListener::bind(path)?);
            } else if line.starts_with("-ERR") {
                return Err(format!("the broker says {line}").into());
            }
            at = end;
        }
        input.drain(..at);
        stream.write_all(&output)?;
        output.clear();
    }
}

/// A line that is there as a whole, without its end.
fn line(input: &[u8]) -> Result<Option<&str>> {
    match input.windows(2).position(|two| two == b"\r\n") {
        Some(end) => Ok(Some(std::str::from_utf8(&input[..end])?)),
        None => Ok(None),
    }
}

#[derive(Debug, PartialEq)]
struct Message<'a> {
    reply: Option<&'a str>,
    len: usize,
}

/// `MSG SUBJECT SUBSCRIPTION [REPLY-TO] BYTES`
fn message(line: &str) -> Result<Message<'_>> {
    let mut words = line.split(' ').skip(3);
    let wrong = || format!("{line:?} is no message");
    let first = words.next().ok_or_else(wrong)?;
    let (reply, len) = match words.next() {
        Some(len) => (Some(first), len),
        None => (None, first),
    };
    Ok(Message { reply, len: len.parse()? })
}

pub fn call(plan: &Plan) -> Result<Outcome> {
    raw::run(plan, Transport::Tcp, &Requests { payload: plan.payload() })
}

/// Each connection has an inbox, whose replies come in order; the payload begins with the call's number all the same.
struct Requests {
    payload: Vec<u8>,
}

const SERIAL: usize = 4;

impl Wire for Requests {
    fn greeting(&self, connection: usize) -> Vec<u8> {
        format!("{CONNECT}SUB inbox.{connection} 1\r\n").into_bytes()
    }

    fn request(&self, connection: usize) -> Vec<u8> {
        let mut request = format!("PUB {SUBJECT} inbox.{connection} {}\r\n", self.payload.len()).into_bytes();
        request.extend_from_slice(&self.payload);
        request.extend_from_slice(b"\r\n");
        request
    }

    fn number(&self, request: &mut [u8], serial: u32) {
        let at = request.len() - self.payload.len() - 2;
        request[at..at + SERIAL].copy_from_slice(&serial.to_be_bytes());
    }

    fn pong(&self) -> &'static [u8] {
        b"PONG\r\n"
    }

    fn input(&self, input: &[u8]) -> Result<Option<Input>> {
        let Some(line) = line(&input[..input.len().min(4000)])? else {
            return Ok(None);
        };
        let head = line.len() + 2;
        if !line.starts_with("MSG ") {
            let kind = match line.split(' ').next() {
                Some("INFO") => Kind::Other,
                Some("PING") => Kind::Ping,
                _ => return Err(format!("the broker says {line}").into()),
            };
            return Ok(Some(Input { len: head, kind }));
        }
        let message = message(line)?;
        crate::load::check_len(message.len, self.payload.len())?;
        let Some(serial) = input[head..].first_chunk::<SERIAL>() else {
            return Ok(None);
        };
        let kind = Kind::Reply(u32::from_be_bytes(*serial));
        Ok(Some(Input { len: head + message.len + 2, kind }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_where_its_reply_goes_and_how_long_it_is() {
        assert_eq!(message("MSG echo 1 inbox.3 32").unwrap(), Message { reply: Some("inbox.3"), len: 32 });
        assert_eq!(message("MSG inbox.3 1 32").unwrap(), Message { reply: None, len: 32 });
        assert!(message("MSG echo").is_err());
    }

    #[test]
    fn a_reply_is_told_by_its_number() {
        let requests = Requests { payload: vec![b'x'; 8] };
        let mut request = requests.request(5);
        requests.number(&mut request, 0x6162_6364);
        assert_eq!(request, b"PUB echo inbox.5 8\r\nabcdxxxx\r\n");
        let reply = b"MSG inbox.5 1 8\r\nabcdxxxx\r\n";
        let input = requests.input(reply).unwrap().unwrap();
        assert_eq!(input.len, reply.len());
        assert!(matches!(input.kind, Kind::Reply(0x6162_6364)));
        assert!(requests.input(&reply[..20]).unwrap().is_none());
    }
}
