//! tonic: gRPC over a Unix socket.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Request, Response, Status};

use super::Threads;
use super::generated::grpc::Packet;
use super::generated::grpc::echo_client::EchoClient;
use super::generated::grpc::echo_server::{Echo, EchoServer};
use crate::Result;
use crate::isolation::HELD;
use crate::load::calls::{self, Caller};
use crate::load::{Outcome, Plan};

const LONGEST_MESSAGE: usize = 64 << 20;

#[derive(Clone, Copy, Debug)]
pub struct SetUp {
    threads: Threads,
    /// HTTP/2's windows of flow control, where they are not those of the default.
    window: Option<u32>,
    /// What blocks runs on a thread of its own, not on one of the runtime's.
    hands_over: bool,
}

pub const ONE_THREAD: SetUp = SetUp { threads: Threads::One, window: None, hands_over: false };
pub const ALL_CORES: SetUp = SetUp { threads: Threads::All, ..ONE_THREAD };
pub const HANDED_OVER: SetUp = SetUp { hands_over: true, ..ALL_CORES };
pub const WIDE: SetUp = SetUp { window: Some(16 << 20), ..ONE_THREAD };

struct Echoing {
    hands_over: bool,
}

#[tonic::async_trait]
impl Echo for Echoing {
    async fn call(&self, request: Request<Packet>) -> std::result::Result<Response<Packet>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    /// Blocks its thread for as many milliseconds as its number says.
    async fn block(&self, request: Request<Packet>) -> std::result::Result<Response<Packet>, Status> {
        let packet = request.into_inner();
        super::block(Duration::from_millis(packet.id), self.hands_over).await;
        Ok(Response::new(packet))
    }
}

pub fn serve(path: &Path, set_up: SetUp) -> Result<()> {
    set_up.threads.runtime()?.block_on(async {
        let listener = UnixListener::bind(path)?;
        let server = Server::builder()
            .initial_stream_window_size(set_up.window)
            .initial_connection_window_size(set_up.window)
            .add_service(
                EchoServer::new(Echoing { hands_over: set_up.hands_over }).max_decoding_message_size(LONGEST_MESSAGE),
            );
        Ok(server.serve_with_incoming(UnixListenerStream::new(listener)).await?)
    })
}

pub fn call(plan: &Plan, set_up: SetUp) -> Result<Outcome> {
    calls::run(plan, || connect(plan, set_up))
}

/// Calls that block.
pub fn block(plan: &Plan) -> Result<Outcome> {
    calls::run(plan, || async { Ok(Blocking(connect(plan, ALL_CORES).await?)) })
}

async fn connect(plan: &Plan, set_up: SetUp) -> Result<Calling> {
    let path = plan.address.clone();
    // tonic wants a host, and does not look at it.
    let endpoint = Endpoint::from_static("http://localhost")
        .initial_stream_window_size(set_up.window)
        .initial_connection_window_size(set_up.window);
    let connect = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = endpoint.connect_with_connector(connect).await?;
    Ok(Calling(EchoClient::new(channel).max_decoding_message_size(LONGEST_MESSAGE)))
}

#[derive(Clone)]
struct Calling(EchoClient<Channel>);

impl Caller for Calling {
    async fn call(&self, id: u64, data: &Bytes) -> Result<(u64, usize)> {
        // Its calls want the client for themselves; clones share the connection.
        let mut client = self.0.clone();
        let reply = client.call(Packet { id, data: data.clone() }).await?.into_inner();
        Ok((reply.id, reply.data.len()))
    }
}

#[derive(Clone)]
struct Blocking(Calling);

impl Caller for Blocking {
    async fn call(&self, id: u64, data: &Bytes) -> Result<(u64, usize)> {
        let mut client = self.0.0.clone();
        client.block(Packet { id: HELD.as_millis() as u64, data: Bytes::new() }).await?;
        Ok((id, data.len()))
    }
}
