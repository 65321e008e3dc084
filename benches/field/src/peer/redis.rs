//! Redis: `ECHO` over a Unix socket, pipelined, by a client that makes no command twice.

use std::process::Command;

use super::{Place, Server, find_program};
use crate::Result;
use crate::load::raw::{self, Input, Kind, Transport, Wire};
use crate::load::{Outcome, Plan};
use crate::process::{Role, await_socket, spawn};

pub const PROGRAM: &str = "redis-server";
pub const PACKAGE: &str = "apt-get install redis-server";

pub fn launch(place: &Place) -> Result<Server> {
    let socket = place.socket();
    let mut command = Command::new(find_program(PROGRAM).ok_or("there is no redis-server")?);
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--maxclients", "10000"]);
    command.args(["--tcp-backlog", "4096", "--unixsocket"]).arg(&socket).arg("--dir").arg(place.folder());
    let mut server = spawn(command, Role::Server, place)?;
    await_socket(&socket, &mut server)?;
    Ok(Server::new(vec![server], socket.display().to_string()))
}

pub fn call(plan: &Plan) -> Result<Outcome> {
    raw::run(plan, Transport::Unix, &Echo::new(&plan.payload()))
}

/// Commands that are all the same; replies come in order.
struct Echo {
    request: Vec<u8>,
    head: Vec<u8>,
    reply_len: usize,
}

impl Echo {
    fn new(payload: &[u8]) -> Self {
        let head = format!("${}\r\n", payload.len()).into_bytes();
        let mut request = b"*2\r\n$4\r\nECHO\r\n".to_vec();
        request.extend_from_slice(&head);
        request.extend_from_slice(payload);
        request.extend_from_slice(b"\r\n");
        let reply_len = head.len() + payload.len() + 2;
        Self { request, head, reply_len }
    }
}

impl Wire for Echo {
    fn request(&self, _: usize) -> Vec<u8> {
        self.request.clone()
    }

    fn number(&self, _: &mut [u8], _: u32) {}

    fn input(&self, input: &[u8]) -> Result<Option<Input>> {
        match input.get(..self.head.len()) {
            None => Ok(None),
            Some(head) if head == self.head => Ok(Some(Input { len: self.reply_len, kind: Kind::NextReply })),
            Some(_) => {
                let shown = String::from_utf8_lossy(&input[..input.len().min(100)]);
                Err(format!("not the reply to ECHO: {shown:?}").into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_as_long_as_its_head_says_and_anything_else_is_refused() {
        let echo = Echo::new(b"hello");
        assert_eq!(echo.request, b"*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\n");
        let input = echo.input(b"$5\r\nhel").unwrap().unwrap();
        assert_eq!(input.len, b"$5\r\nhello\r\n".len());
        assert!(echo.input(b"$5\r").unwrap().is_none());
        assert!(echo.input(b"$6\r\nhello!\r\n").is_err());
        assert!(echo.input(b"-ERR no\r\n").is_err());
    }
}
