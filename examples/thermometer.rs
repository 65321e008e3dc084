//! A daemon that tells its clients something without being asked: a thermometer, and a client that reads along.
//!
//! The readings come from a timer on the event loop of the service; a real thermometer would have the loop watch its
//! descriptor instead. Whoever subscribed gets each reading, and where it reads too slowly, how many it has missed.
//!
//! ```text
//! cargo run --example thermometer                                    # service and client in one process
//! cargo run --example thermometer -- serve unix:/tmp/thermometer &   # the service alone
//! cargo run --example thermometer -- unix:/tmp/thermometer           # the client alone
//! postroom watch --to unix:/tmp/thermometer thermometer.reading      # no client to write
//! ```

use std::time::Duration;

use postroom::client::Connector;
use postroom::event_loop::Interval;
use postroom::{Config, Event, Program, Running, Service};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One type for both sides: the service encodes it, the client decodes it.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
struct Reading {
    number: u64,
    celsius: f64,
}

/// The event: what the program declares, and what is published. A value of another type does not compile.
const READING: Event<Reading> = Event::new(1, "reading").schema();

/// Starts the service, and its readings.
fn start(config: Config) -> Result<Running, Box<dyn std::error::Error>> {
    let program = Program::new("thermometer", 0x7468_726d, 1).event(READING);
    let publisher = program.publisher();
    let running = Service::new(config).program(program).start()?;
    let mut number = 0;
    running.event_loop().add_timeout(Interval::Every(Duration::from_millis(10)), move |_| {
        number += 1;
        // Where nobody listens, this only looks whether anybody does.
        publisher.publish(READING, &Reading { number, celsius: 21.0 + (number as f64).sin() });
    })?;
    Ok(running)
}

/// What the client does: prints three readings.
fn read(connector: &Connector, address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let client = connector.builder().connect_blocking(address)?;
    let readings = client.subscribe::<Reading>("thermometer.reading").queue(16).open()?;
    for reading in readings.take(3) {
        let reading = reading?;
        println!("reading {}: {:.1} °C ({} missed)", reading.value.number, reading.value.celsius, reading.lost);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", address] => {
            start(Config { listen: vec![address.parse()?], ..Config::default() })?.wait();
        }
        [] => {
            let running = start(Config::default())?;
            read(&running.connector("here"), "local:here")?;
            running.stop();
        }
        [address] => read(&Connector::new(), address)?,
        _ => return Err("usage: thermometer [ADDR | serve ADDR]".into()),
    }
    Ok(())
}
