//! A client for a program without async: the same calls, from any number of threads.
//!
//! ```text
//! cargo run &                             # a service on the default socket
//! cargo run --example blocking_client     # or, for another: -- unix:PATH
//! ```

use postroom::client::blocking::Client;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

#[derive(Serialize)]
struct Hash {
    data: ByteBuf,
}

#[derive(Deserialize)]
struct Hashed {
    sha256: ByteBuf,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = match std::env::args().nth(1) {
        Some(address) => address,
        None => postroom::cli::default_address()?.to_string(),
    };
    let client = Client::connect(address)?;
    let threads: Vec<_> = ["one", "two", "three"]
        .map(|word| {
            let client = client.clone();
            std::thread::spawn(move || {
                let hashed = client.call::<Hashed>("echo.hash", &Hash { data: word.as_bytes().to_vec().into() });
                hashed.map(|hashed| (word, hashed.sha256))
            })
        })
        .into();
    for thread in threads {
        let (word, sha256) = thread.join().map_err(|_| "a thread panicked")??;
        let hex: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{hex}  {word}");
    }
    Ok(())
}
