//! A program that has its service inside, and moves it out by changing a string.
//!
//! ```text
//! cargo run --example embedded                                        # in this process, without a socket
//! cargo run --example embedded -- serve unix:/tmp/greeter.sock &      # the service alone
//! cargo run --example embedded -- unix:/tmp/greeter.sock              # the same program, its service elsewhere
//! ```

use actix::prelude::*;
use postroom::client::Connector;
use postroom::{Call, Config, Error, Program, Service};
use serde::{Deserialize, Serialize};

/// One type for both sides: the service decodes it, the client encodes it.
#[derive(Deserialize, Message, Serialize)]
#[rtype(result = "Result<Greeting, Error>")]
struct Greet {
    name: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct Greeting {
    text: String,
}

struct Greeter;

impl Actor for Greeter {
    type Context = Context<Self>;
}

impl Handler<Call<Greet>> for Greeter {
    type Result = Result<Greeting, Error>;

    fn handle(&mut self, call: Call<Greet>, _: &mut Self::Context) -> Self::Result {
        Ok(Greeting { text: format!("hello {}, you came by {}", call.args.name, call.peer().transport()) })
    }
}

fn service(config: Config) -> Service {
    Service::new(config)
        .program(Program::new("greeter", 0x6772_6565, 1).handler(|| Greeter).procedure::<Greet>(1, "greet"))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", address] => {
            let config = Config { listen: vec![address.parse()?], ..Config::default() };
            return Ok(service(config).run()?);
        }
        // The service runs here, for as long as `running` is held.
        [] => {
            let running = service(Config::default()).start()?;
            greet(&running.connector("greeter"), "local:greeter")?;
            running.stop();
        }
        // The service runs elsewhere: the same calls, the same errors.
        [address] => greet(&Connector::new(), address)?,
        _ => return Err("usage: embedded [ADDR | serve ADDR]".into()),
    }
    Ok(())
}

/// What the program does, wherever its service is.
fn greet(connector: &Connector, address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let client = connector.builder().connect_blocking(address)?;
    let greeting: Greeting = client.call("greeter.greet", &Greet { name: "world".to_owned() })?;
    println!("{}", greeting.text);
    Ok(())
}
