//! tarpc over its Unix transport, with bincode, the fastest of its formats. It is the user who decides where handlers
//! run, so it comes in six set-ups, and in two more for handlers that block.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tarpc::client::Config;
use tarpc::context::{self, Context};
use tarpc::serde_transport::{self, Transport};
use tarpc::server::{self, BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::Threads;
use crate::Result;
use crate::isolation::HELD;
use crate::load::calls::{self, Caller};
use crate::load::{Outcome, Plan};

/// Room for all the calls of a connection here, so that its limits do not hold it.
const PENDING: usize = 1024;
const LONGEST_FRAME: usize = 64 << 20;
const BUFFER: usize = 64 * 1024;

#[derive(Clone, Copy, Debug)]
pub struct SetUp {
    handlers: Handlers,
    threads: Threads,
    /// Reads and writes up to 64 KiB at once, not 8.
    is_buffered: bool,
    /// What blocks runs on a thread of its own, not on one of the runtime's.
    hands_over: bool,
}

/// Where handlers run.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Handlers {
    /// Each call is a task of its own, as tarpc's examples have it.
    Spawned,
    /// In the task of the connection, any number at the same time.
    Inline,
    /// There too, one after the other: one that waits holds up its connection.
    InTurn,
}

pub const SPAWNED: SetUp =
    SetUp { handlers: Handlers::Spawned, threads: Threads::One, is_buffered: false, hands_over: false };
pub const INLINE: SetUp = SetUp { handlers: Handlers::Inline, ..SPAWNED };
pub const INLINE_BUFFERED: SetUp = SetUp { is_buffered: true, ..INLINE };
pub const IN_TURN: SetUp = SetUp { handlers: Handlers::InTurn, ..SPAWNED };
pub const IN_TURN_ALL_CORES: SetUp = SetUp { threads: Threads::All, ..IN_TURN };
pub const IN_TURN_BUFFERED: SetUp = SetUp { is_buffered: true, ..IN_TURN };
pub const BLOCKING: SetUp = SetUp { threads: Threads::All, ..SPAWNED };
pub const HANDED_OVER: SetUp = SetUp { hands_over: true, ..BLOCKING };

#[tarpc::service]
trait Echo {
    async fn echo(id: u64, data: Bytes) -> (u64, Bytes);
    /// Blocks its thread.
    async fn block(ms: u64);
}

#[derive(Clone)]
struct Echoing {
    hands_over: bool,
}

impl Echo for Echoing {
    async fn echo(self, _: Context, id: u64, data: Bytes) -> (u64, Bytes) {
        (id, data)
    }

    async fn block(self, _: Context, ms: u64) {
        super::block(Duration::from_millis(ms), self.hands_over).await;
    }
}

fn frames(stream: UnixStream, set_up: SetUp) -> Framed<UnixStream, LengthDelimitedCodec> {
    let mut frames = LengthDelimitedCodec::builder().max_frame_length(LONGEST_FRAME).new_framed(stream);
    if set_up.is_buffered {
        frames.set_backpressure_boundary(BUFFER);
        frames.read_buffer_mut().reserve(BUFFER);
        frames.write_buffer_mut().reserve(BUFFER);
    }
    frames
}

pub fn serve(path: &Path, set_up: SetUp) -> Result<()> {
    set_up.threads.runtime()?.block_on(async {
        let listener = UnixListener::bind(path)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let transport: Transport<_, _, _, _> = serde_transport::new(frames(stream, set_up), Bincode::default());
            let config = server::Config { pending_response_buffer: PENDING };
            let calls = BaseChannel::new(config, transport).execute(Echoing { hands_over: set_up.hands_over }.serve());
            match set_up.handlers {
                Handlers::Spawned => tokio::spawn(calls.for_each(|call| async {
                    tokio::spawn(call);
                })),
                Handlers::Inline => tokio::spawn(calls.for_each_concurrent(None, |call| call)),
                Handlers::InTurn => tokio::spawn(calls.for_each(|call| call)),
            };
        }
    })
}

pub fn call(plan: &Plan, set_up: SetUp) -> Result<Outcome> {
    calls::run(plan, || connect(plan, set_up))
}

/// Calls that block.
pub fn block(plan: &Plan) -> Result<Outcome> {
    calls::run(plan, || async { Ok(Blocking(connect(plan, BLOCKING).await?)) })
}

async fn connect(plan: &Plan, set_up: SetUp) -> Result<EchoClient> {
    let stream = UnixStream::connect(&plan.address).await?;
    let transport = serde_transport::new(frames(stream, set_up), Bincode::default());
    let mut config = Config::default();
    config.max_in_flight_requests = PENDING;
    config.pending_request_buffer = PENDING;
    Ok(EchoClient::new(config, transport).spawn())
}

impl Caller for EchoClient {
    async fn call(&self, id: u64, data: &Bytes) -> Result<(u64, usize)> {
        let (same_id, data) = self.echo(context::current(), id, data.clone()).await?;
        Ok((same_id, data.len()))
    }
}

#[derive(Clone)]
struct Blocking(EchoClient);

impl Caller for Blocking {
    async fn call(&self, id: u64, data: &Bytes) -> Result<(u64, usize)> {
        self.0.block(context::current(), HELD.as_millis() as u64).await?;
        Ok((id, data.len()))
    }
}
