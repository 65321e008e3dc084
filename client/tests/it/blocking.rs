//! The face for programs without async.

use std::thread;
use std::time::Duration;

use postroom_client::blocking::Client;
use postroom_client::{CallError, CloseCause, ConnectProblem};
use tokio::net::UnixListener;

use crate::support::{ECHO, Parcel, Peer};

/// A service on a thread of its own; it answers `n_clients` one after the other.
fn service(n_clients: usize) -> (tempfile::TempDir, String, thread::JoinHandle<()>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let address = format!("unix:{}", path.display());
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let thread = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = UnixListener::from_std(listener).unwrap();
            for _ in 0..n_clients {
                let mut peer = Peer::new(listener.accept().await.unwrap().0);
                peer.greet(&[]).await;
                peer.serve().await;
            }
        });
    });
    (dir, address, thread)
}

#[test]
fn eight_threads_share_one_client() {
    let (_dir, address, service) = service(1);
    let client = Client::connect(address).unwrap();
    thread::scope(|scope| {
        for thread in 0..8u64 {
            let client = &client;
            scope.spawn(move || {
                for n in 0..500 {
                    let parcel = Parcel::new(thread << 32 | n);
                    assert_eq!(client.call::<Parcel>(ECHO, &parcel).unwrap(), parcel);
                }
            });
        }
    });
    drop(client);
    // The service ends when the connection does, which dropping the client has waited for.
    service.join().unwrap();
}

#[test]
fn a_deadline_ends_the_wait() {
    let (_dir, address, service) = service(1);
    let client = Client::connect(address).unwrap();
    // Calls with metadata are not answered by this service.
    let error = client.request(ECHO).args(&1).deadline(Duration::from_millis(10)).send::<u32>().unwrap_err();
    assert!(matches!(error, CallError::Deadline(_)), "{error}");
    assert_eq!(client.request(ECHO).raw_args([1, 2]).send_raw().unwrap()[..], [1, 2]);
    drop(client);
    service.join().unwrap();
}

#[test]
fn closing_tells_all_clones() {
    let (_dir, address, service) = service(1);
    let client = Client::connect(address).unwrap();
    let other = client.clone();
    client.close();
    service.join().unwrap();
    match other.call::<u32>(ECHO, &1) {
        Err(CallError::Closed(reason)) => assert!(matches!(reason.cause(), CloseCause::ClosedHere)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_service_is_an_error() {
    let error = Client::connect("unix:/nowhere/at/all").unwrap_err();
    assert!(matches!(error.problem(), ConnectProblem::Io(_)) && error.is_absent(), "{error}");
    assert!(matches!(Client::connect("nowhere").unwrap_err().problem(), ConnectProblem::Location(_)));
}

#[test]
fn clients_come_and_go_twice_in_one_process() {
    let (_dir, address, service) = service(2);
    for id in 0..2 {
        let client = Client::connect(&address).unwrap();
        assert_eq!(client.call::<Parcel>(ECHO, &Parcel::new(id)).unwrap(), Parcel::new(id));
    }
    service.join().unwrap();
}
