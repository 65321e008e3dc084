//! ttrpc: the framework of containerd's shims, protocol buffers over a Unix socket.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ttrpc::r#async::{Client, Server, TtrpcContext};
use ttrpc::context;

use super::Threads;
use super::generated::ttrpc::echo::Packet;
use super::generated::ttrpc::echo_ttrpc::{Echo, EchoClient, create_echo};
use crate::Result;
use crate::load::calls::{self, Caller};
use crate::load::{Outcome, Plan};

struct Echoing;

#[async_trait::async_trait]
impl Echo for Echoing {
    async fn call(&self, _: &TtrpcContext, packet: Packet) -> ttrpc::Result<Packet> {
        Ok(packet)
    }
}

pub fn serve(path: &Path, threads: Threads) -> Result<()> {
    threads.runtime()?.block_on(async {
        let server = Server::new().bind(&address(&path.display().to_string()))?;
        // It listens until it is dropped.
        let mut server = server.register_service(create_echo(Arc::new(Echoing)));
        server.start().await?;
        std::future::pending().await
    })
}

fn address(path: &str) -> String {
    format!("unix://{path}")
}

pub fn call(plan: &Plan) -> Result<Outcome> {
    calls::run(plan, || async { Ok(EchoClient::new(Client::connect(&address(&plan.address)).await?)) })
}

impl Caller for EchoClient {
    async fn call(&self, id: u64, data: &Bytes) -> Result<(u64, usize)> {
        let mut packet = Packet::new();
        packet.id = id;
        packet.data = data.to_vec();
        let reply = self.call(context::Context::default(), &packet).await?;
        Ok((reply.id, reply.data.len()))
    }
}
