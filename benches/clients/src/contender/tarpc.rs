//! tarpc over its own Unix transport, with bincode, the fastest of its formats. Its limits and buffers are those it has
//! by default: they have room for all the calls of a connection here.

use std::path::Path;

use bytes::Bytes;
use futures::StreamExt;
use tarpc::client::Config;
use tarpc::context::{self, Context};
use tarpc::serde_transport::unix;
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;

use crate::load::{Caller, PAYLOAD};
use crate::{Result, server};

#[tarpc::service]
trait Echo {
    async fn echo(id: u64, data: Bytes) -> (u64, Bytes);
}

#[derive(Clone)]
struct Echoing;

impl Echo for Echoing {
    async fn echo(self, _: Context, id: u64, data: Bytes) -> (u64, Bytes) {
        (id, data)
    }
}

/// Where handlers run.
#[derive(Clone, Copy, PartialEq)]
pub enum Handlers {
    /// Each call is a task of its own, as tarpc's examples have it.
    Spawned,
    /// In the task of the connection, any number at the same time.
    Inline,
    /// There too, one after the other: one that waits holds up its connection.
    InTurn,
}

pub async fn serve(path: &Path, handlers: Handlers) -> Result<()> {
    let mut incoming = unix::listen(path, Bincode::default).await?;
    server::ready();
    while let Some(transport) = incoming.next().await {
        let calls = BaseChannel::with_defaults(transport?).execute(Echoing.serve());
        match handlers {
            Handlers::Spawned => tokio::spawn(calls.for_each(|call| async {
                tokio::spawn(call);
            })),
            Handlers::Inline => tokio::spawn(calls.for_each_concurrent(None, |call| call)),
            Handlers::InTurn => tokio::spawn(calls.for_each(|call| call)),
        };
    }
    Ok(())
}

#[derive(Clone)]
pub struct Calling {
    client: EchoClient,
    /// Cloning it copies nothing.
    data: Bytes,
}

pub async fn connect(path: &Path) -> Result<Calling> {
    let transport = unix::connect(path, Bincode::default).await?;
    let client = EchoClient::new(Config::default(), transport).spawn();
    Ok(Calling { client, data: Bytes::from_static(&PAYLOAD) })
}

impl Caller for Calling {
    async fn call(&self, id: u64) -> Result<bool> {
        let (same_id, data) = self.client.echo(context::current(), id, self.data.clone()).await?;
        Ok(same_id == id && data[..] == PAYLOAD)
    }
}
