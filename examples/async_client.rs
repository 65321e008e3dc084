//! An async client: many calls at once on one connection, a deadline, an error that says why.
//!
//! ```text
//! cargo run &                             # a service on the default socket
//! cargo run --example async_client        # or, for another: -- unix:PATH
//! ```

use std::time::Duration;

use postroom::client::{CallError, Client};
use serde::{Deserialize, Serialize};

/// The arguments of `echo.echo`, and its result.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Parcel {
    id: u64,
    data: serde_bytes::ByteBuf,
}

#[derive(Serialize)]
struct Sleep {
    ms: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = match std::env::args().nth(1) {
        Some(address) => address,
        None => postroom::cli::default_address()?.to_string(),
    };
    let client = Client::connect(address).await?;
    println!("connected to {} {}", client.service().service, client.peer());

    // A clone of the handle is the same connection: calls made at the same time leave in one write.
    let calls = (0..100).map(|id| {
        let client = client.clone();
        tokio::spawn(async move {
            let parcel = Parcel { id, data: b"hello".to_vec().into() };
            let back: Parcel = client.call("echo.echo", &parcel).await?;
            assert_eq!(back, parcel);
            Ok::<_, CallError>(())
        })
    });
    let calls: Vec<_> = calls.collect();
    for call in calls {
        call.await??;
    }
    println!("100 calls answered");

    // A deadline covers the whole call. The service is told of it, and told when the call is given up.
    let late = client.request("echo.sleep").args(&Sleep { ms: 60_000 }).deadline(Duration::from_millis(50));
    match late.send::<()>().await {
        Err(error) if error.is_deadline() => println!("too late, as expected: {error}"),
        other => return Err(format!("expected a deadline, got {other:?}").into()),
    }
    Ok(())
}
