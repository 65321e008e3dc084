//! An async handler: it waits for something else (here, another program) without holding a thread, so that a
//! thousand of its calls can wait at once.
//!
//! ```text
//! cargo run --example async_handler -- --listen unix:/tmp/probe.sock &
//! postroom call --to unix:/tmp/probe.sock probe.port '{"host": "127.0.0.1", "port": 22}'
//! ```

use std::time::Duration;

use actix::prelude::*;
use postroom::{Call, Code, Error, Program, Service};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Whether somebody listens at a port.
#[derive(Deserialize, JsonSchema, Message)]
#[rtype(result = "Result<Answer, Error>")]
struct Port {
    host: String,
    port: u16,
}

#[derive(JsonSchema, Serialize)]
struct Answer {
    is_open: bool,
}

struct Probe;

impl Actor for Probe {
    type Context = Context<Self>;
}

impl Handler<Call<Port>> for Probe {
    // The future owns what it needs: many of them run at once, and none can hold the actor.
    type Result = ResponseFuture<Result<Answer, Error>>;

    fn handle(&mut self, call: Call<Port>, _: &mut Self::Context) -> Self::Result {
        Box::pin(async move {
            let Port { host, port } = call.args;
            match timeout(Duration::from_secs(2), TcpStream::connect((host.as_str(), port))).await {
                Ok(connected) => Ok(Answer { is_open: connected.is_ok() }),
                // A code of the program's own, which its clients can tell from others.
                Err(_) => Err(Error::new(Code::new("no_answer"), format!("{host} does not answer")).with_retryable()),
            }
        })
    }
}

fn main() -> postroom::Result<()> {
    let probe = Program::new("probe", 0x7072_6f62, 1).handler(|| Probe).asynchronous::<Port>(1, "port").schema();
    Service::from_args()?.program(probe).run()
}
