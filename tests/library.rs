//! The library without the feature `cli`: what an embedding program gets, and nothing of the binary.
//!
//! Runs with and without default features; `./test` does both.

#![allow(clippy::unwrap_used)]

use actix::prelude::*;
use postroom::testing::{Gate, handle, handle_all, pair};
use postroom::{Call, Config, Error, Program, Service};
use serde::{Deserialize, Serialize};

#[derive(Clone, Deserialize, Message, Serialize)]
#[rtype(result = "Result<u64, Error>")]
struct Add {
    n: u64,
}

#[derive(Deserialize, Message, Serialize)]
#[rtype(result = "Result<u64, Error>")]
struct AddLater {
    n: u64,
}

/// Adds up what it gets.
#[derive(Default)]
struct Sum {
    sum: u64,
    gate: Option<Gate>,
}

impl Actor for Sum {
    type Context = Context<Self>;
}

impl Handler<Call<Add>> for Sum {
    type Result = Result<u64, Error>;

    fn handle(&mut self, call: Call<Add>, _: &mut Self::Context) -> Self::Result {
        if let Some(gate) = &self.gate {
            gate.pass();
        }
        self.sum = self.sum.checked_add(call.args.n).ok_or_else(|| Error::failed("the sum does not fit"))?;
        Ok(self.sum)
    }
}

impl Handler<Call<AddLater>> for Sum {
    type Result = ResponseFuture<Result<u64, Error>>;

    fn handle(&mut self, call: Call<AddLater>, _: &mut Self::Context) -> Self::Result {
        Box::pin(async move { Ok(call.args.n) })
    }
}

#[test]
fn handlers_are_tested_without_a_service() {
    assert_eq!(handle(Sum::default, Add { n: 5 }).unwrap(), 5);
    assert_eq!(handle(Sum::default, AddLater { n: 5 }).unwrap(), 5);
    let results = handle_all(Sum::default, [Add { n: 1 }, Add { n: 2 }, Add { n: u64::MAX }]);
    assert_eq!(results[..2].iter().map(|result| *result.as_ref().unwrap()).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(results[2].as_ref().unwrap_err().message(), "the sum does not fit");
}

#[test]
fn a_service_is_embedded_and_called_in_memory() {
    let gate = Gate::new();
    let handlers_gate = gate.clone();
    let sum = Program::new("sum", 1, 1)
        .handler(move || Sum { sum: 0, gate: Some(handlers_gate.clone()) })
        .procedure::<Add>(1, "add")
        .asynchronous::<AddLater>(2, "later");
    let pair = pair(Service::new(Config::default()).program(sum));
    let client = pair.client.clone();
    let blocked = std::thread::spawn(move || client.call::<u64>("sum.add", &Add { n: 5 }));
    gate.wait_for(1);
    // The handler holds its worker; everything else goes on.
    assert_eq!(pair.client.call::<u64>("sum.later", &AddLater { n: 7 }).unwrap(), 7);
    assert!(!blocked.is_finished());
    gate.open();
    assert_eq!(blocked.join().unwrap().unwrap(), 5);
}
