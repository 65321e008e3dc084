//! zlink: Varlink, JSON over a Unix socket. Its bytes are a text of the same length.
//!
//! Replies have no number and come in order, so its client keeps as many calls under way as it may and reads the replies
//! to them, in one task.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use zlink::{Call, ReplyError, introspect, service, tokio::unix};

use crate::Result;
use crate::case::Case;
use crate::load::calls::{drive, on_one_thread};
use crate::load::idle::Idle;
use crate::load::{Outcome, Plan, Tally, check_len};

#[derive(Debug, Serialize, Deserialize, introspect::Type)]
struct Packet {
    id: u64,
    data: String,
}

#[derive(Debug, Deserialize)]
struct Reply<'a> {
    id: u64,
    #[serde(borrow)]
    data: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(tag = "method", content = "parameters")]
enum Method<'a> {
    #[serde(rename = "org.postroom.Echo.Call")]
    Call { id: u64, data: &'a str },
}

#[derive(Debug, PartialEq, ReplyError, introspect::ReplyError)]
#[zlink(interface = "org.postroom.Echo")]
enum EchoError {
    Never,
}

struct Echoing;

#[service(interface = "org.postroom.Echo")]
impl Echoing {
    async fn call(&mut self, id: u64, data: String) -> std::result::Result<Packet, EchoError> {
        Ok(Packet { id, data })
    }
}

pub fn serve(path: &Path) -> Result<()> {
    on_one_thread(async {
        let listener = unix::bind(path)?;
        Ok(zlink::Server::new(listener, Echoing).run().await?)
    })
}

pub fn call(plan: &Plan) -> Result<Outcome> {
    let data = String::from_utf8(plan.payload())?;
    match plan.case {
        Case::Idle(n_clients) => on_one_thread(async {
            let call = async |connection: &mut unix::Connection| call_once(connection, &data).await;
            let mut first = unix::connect(&plan.address).await?;
            Idle::warm_up(async || call(&mut first).await).await?;
            let idle = Idle::begin(plan).await?;
            let mut connections = Vec::new();
            for _ in 0..n_clients {
                connections.push(unix::connect(&plan.address).await?);
            }
            let idle = idle.connected(plan).await?;
            for connection in &mut connections {
                call(connection).await?;
            }
            idle.end(plan, n_clients).await
        }),
        Case::Load(shape) => drive(plan, async |tally, tasks| {
            for _ in 0..shape.connections {
                let connection = unix::connect(&plan.address).await?;
                tasks.spawn_local(calls(connection, shape.depth as u64, data.clone(), tally.clone()));
            }
            Ok(())
        }),
    }
}

async fn call_once(connection: &mut unix::Connection, data: &str) -> Result<()> {
    let call = Call::new(Method::Call { id: 1, data });
    let (reply, _) = connection.call_method::<_, Reply<'_>, EchoError>(&call, vec![]).await?;
    let packet = reply.map_err(|error| format!("{error:?}"))?.into_parameters().ok_or("a reply without a result")?;
    check_len(packet.data.len(), data.len())
}

async fn calls(connection: unix::Connection, depth: u64, data: String, tally: Tally) -> Result<()> {
    let (mut input, mut output) = connection.split();
    let (n_sent, n_answered) = (Cell::new(0), Cell::new(0));
    // When the calls under way were made, oldest first.
    let times = RefCell::new(VecDeque::new());
    let answered = Notify::new();
    let read = async {
        loop {
            let (reply, _) = input.receive_reply::<Reply<'_>, EchoError>().await?;
            let reply = reply.map_err(|error| format!("{error:?}"))?;
            let packet = reply.into_parameters().ok_or("a reply without a result")?;
            if packet.id != n_answered.get() {
                return Err(format!("call {} got the reply of {}", n_answered.get(), packet.id).into());
            }
            check_len(packet.data.len(), data.len())?;
            n_answered.set(packet.id + 1);
            let sent = times.borrow_mut().pop_front().ok_or("more replies than calls")?;
            tally.answered(sent, Instant::now());
            answered.notify_one();
        }
    };
    let write = async {
        loop {
            let free = depth - (n_sent.get() - n_answered.get());
            for _ in 0..free {
                let id = n_sent.get();
                output.enqueue_call(&Call::new(Method::Call { id, data: &data }), vec![])?;
                times.borrow_mut().push_back(Instant::now());
                n_sent.set(id + 1);
            }
            output.flush().await?;
            answered.notified().await;
        }
    };
    // The reader is polled first, so that the writer sees all the replies that were read at once.
    tokio::select! { biased; ended = read => ended, ended = write => ended }
}
