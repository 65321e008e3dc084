//! A client for a program without async: the same calls, from any number of threads.
//!
//! ```text
//! cargo run &                                  # a service on the default socket
//! cargo run --example blocking_client -- unix:$XDG_RUNTIME_DIR/postroom/postroom.sock
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
    let address = std::env::args().nth(1).unwrap_or_else(|| "unix:/run/postroom/postroom.sock".to_owned());
    let client = Client::connect(address.as_str())?;
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
