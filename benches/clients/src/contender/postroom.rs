//! Postroom: the service as it is by default, with its program `echo`, and its client, one future for each call.

use std::path::Path;

use postroom::client::{Client, Procedure};
use postroom::{Config, Service};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};

use crate::load::{Caller, PAYLOAD};
use crate::{Result, server};

#[derive(Serialize)]
struct Request<'a> {
    id: u64,
    data: &'a Bytes,
}

#[derive(Deserialize)]
struct Reply {
    id: u64,
    data: ByteBuf,
}

pub fn serve(path: &Path) -> Result<()> {
    let listen = vec![address(path).parse()?];
    let running = Service::new(Config { listen, ..Config::default() }).start()?;
    server::ready();
    running.wait();
    Ok(())
}

fn address(path: &Path) -> String {
    format!("unix:{}", path.display())
}

#[derive(Clone)]
pub struct Calling {
    client: Client,
    procedure: Procedure,
}

pub async fn connect(path: &Path, procedure: &str) -> Result<Calling> {
    let client = Client::connect(address(path)).await?;
    let procedure = client.resolve(procedure).await?;
    Ok(Calling { client, procedure })
}

impl Caller for Calling {
    async fn call(&self, id: u64) -> Result<bool> {
        let request = Request { id, data: Bytes::new(&PAYLOAD) };
        let reply: Reply = self.client.call(self.procedure, &request).await?;
        Ok(reply.id == id && reply.data[..] == PAYLOAD)
    }
}
