//! A client that comes back, while the service is killed and started again under it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use postroom::client::{CallError, Client, Reconnect};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::support::Binary;

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Parcel {
    id: u64,
    data: ByteBuf,
}

fn serve(path: &Path) -> Binary {
    Binary::serve_with("", &["--listen", &format!("unix:{}", path.display())])
}

#[test]
fn a_service_that_is_killed_and_restarted_costs_no_idempotent_call_and_tells_every_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let mut service = serve(&path);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let reconnect = Reconnect {
            first_delay: Duration::from_millis(5),
            max_delay: Duration::from_millis(50),
            resends: 100,
            wait_for_service: true,
        };
        let client = Client::builder().reconnect(reconnect);
        let client = client.connect(format!("unix:{}", path.display())).await.unwrap();
        let answered = Arc::new(AtomicU64::new(0));
        let lost = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicU64::new(0));
        let tasks: Vec<_> = (0..16_u64)
            .map(|task| {
                let (client, answered, lost, stop) = (client.clone(), answered.clone(), lost.clone(), stop.clone());
                tokio::spawn(async move {
                    let is_idempotent = task % 2 == 0;
                    let mut call = 0;
                    while stop.load(Relaxed) == 0 {
                        call += 1;
                        let sent = Parcel { id: task << 32 | call, data: vec![task as u8; 20].into() };
                        let request = client.request("echo.echo").args(&sent);
                        let request = if is_idempotent { request.idempotent() } else { request };
                        match request.send::<Parcel>().await {
                            Ok(back) => {
                                assert_eq!(back, sent);
                                answered.fetch_add(1, Relaxed);
                            }
                            Err(error) if is_idempotent => panic!("an idempotent call failed: {error}"),
                            Err(CallError::Closed(reason)) => {
                                assert!(!reason.to_string().is_empty());
                                lost.fetch_add(1, Relaxed);
                            }
                            Err(other) => panic!("{other}"),
                        }
                    }
                })
            })
            .collect();
        for _ in 0..5 {
            let before = answered.load(Relaxed);
            while answered.load(Relaxed) < before + 500 {
                tokio::task::yield_now().await;
            }
            service.signal(Signal::KILL);
            // This blocks the client's runtime too, which is as good as any time for a client to stand still.
            service.wait();
            service = serve(&path);
        }
        let before = answered.load(Relaxed);
        while answered.load(Relaxed) < before + 500 {
            tokio::task::yield_now().await;
        }
        stop.store(1, Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
        assert!(client.close_reason().is_none());
    });
}

#[test]
fn without_reconnecting_a_lost_service_ends_the_client_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let mut service = serve(&path);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::connect(format!("unix:{}", path.display())).await.unwrap();
        service.signal(Signal::KILL);
        service.wait();
        let reason = client.closed().await;
        assert!(reason.announced().is_none(), "{reason}");
        let error = client.call::<()>("echo.whoami", &()).await.unwrap_err();
        assert!(matches!(error, CallError::Closed(_)), "{error}");
    });
}
