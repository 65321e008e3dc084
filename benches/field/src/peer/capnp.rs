//! capnp-rpc: Cap'n Proto. It has one thread by its nature.

use std::path::Path;
use std::rc::Rc;

use ::capnp::Error;
use bytes::Bytes;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::twoparty::VatNetwork;
use capnp_rpc::{RpcSystem, new_client};
use futures::io::{AsyncReadExt, BufReader, BufWriter};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::generated::echo_capnp::echo;
use crate::Result;
use crate::load::calls::{self, Caller, on_one_thread};
use crate::load::{Outcome, Plan};

struct Echoing;

impl echo::Server for Echoing {
    async fn call(
        self: Rc<Self>,
        params: echo::CallParams,
        mut results: echo::CallResults,
    ) -> std::result::Result<(), Error> {
        let params = params.get()?;
        let mut reply = results.get();
        reply.set_id(params.get_id());
        reply.set_data(params.get_data()?);
        Ok(())
    }
}

fn network(stream: UnixStream, side: Side) -> Box<VatNetwork<impl futures::AsyncRead + Unpin + 'static>> {
    let (input, output) = stream.compat().split();
    Box::new(VatNetwork::new(BufReader::new(input), BufWriter::new(output), side, Default::default()))
}

pub fn serve(path: &Path) -> Result<()> {
    on_one_thread(async {
        let listener = UnixListener::bind(path)?;
        let echoing: echo::Client = new_client(Echoing);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::task::spawn_local(RpcSystem::new(network(stream, Side::Server), Some(echoing.clone().client)));
        }
    })
}

pub fn call(plan: &Plan) -> Result<Outcome> {
    calls::run(plan, || async {
        let stream = UnixStream::connect(&plan.address).await?;
        let mut system = RpcSystem::new(network(stream, Side::Client), None);
        let client: echo::Client = system.bootstrap(Side::Server);
        tokio::task::spawn_local(system);
        Ok(client)
    })
}

impl Caller for echo::Client {
    async fn call(&self, id: u64, data: &Bytes) -> Result<(u64, usize)> {
        let mut request = self.call_request();
        let mut params = request.get();
        params.set_id(id);
        params.set_data(data);
        let reply = request.send().promise.await?;
        let reply = reply.get()?;
        Ok((reply.get_id(), reply.get_data()?.len()))
    }
}
