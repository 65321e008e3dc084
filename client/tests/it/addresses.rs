//! Addresses that are none, and places where nothing is.

use std::io;
use std::sync::Arc;

use postroom_client::{Client, ConnectError, ConnectProblem, Connector, Duplex, LocalService, Location};
use tokio::net::{TcpListener, TcpSocket};

use crate::support::{Door, ECHO, Parcel, Peer};

async fn refused(address: &str) -> ConnectError {
    Client::connect(address).await.expect_err(address)
}

#[tokio::test]
async fn what_is_no_address_is_told_what_forms_there_are() {
    for address in ["", "nonsense", "unix:", "tcp:host", "tcp:host:70000", "http://localhost", "local:", "tls:a:1"] {
        let error = refused(address).await;
        assert!(matches!(error.problem(), ConnectProblem::Location(_)), "{address}: {error}");
        let text = error.to_string();
        assert!(text.contains("local:NAME") && text.contains(&format!("{address:?}")), "{text}");
    }
}

#[tokio::test]
async fn no_service() {
    let dir = tempfile::tempdir().unwrap();
    let missing = format!("unix:{}", dir.path().join("missing").display());
    let error = refused(&missing).await;
    assert!(error.is_absent() && error.to_string().contains(&missing), "{error}");
    assert!(error.to_string().contains("is the service running"), "{error}");

    // A socket that was left behind, and a port that nobody listens at.
    let stale = dir.path().join("stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let free = bound.local_addr().unwrap();
    for address in [format!("unix:{}", stale.display()), format!("tcp:{free}"), "unix:@postroom-nobody".to_owned()] {
        let error = refused(&address).await;
        assert!(error.is_absent(), "{error}");
        assert!(error.to_string().contains("nothing listens there"), "{error}");
    }
}

#[tokio::test]
async fn a_local_name_that_is_not_known_is_told_which_are() {
    let error = refused("local:disks").await;
    assert!(error.to_string().contains("give it to a `Connector`"), "{error}");
    let door = Door::new();
    let error = door.connector.connect("local:disks").await.unwrap_err();
    assert!(matches!(error.problem(), ConnectProblem::UnknownLocal(known) if *known == ["test"]), "{error}");
    assert!(error.to_string().contains("it has: test"), "{error}");
}

#[tokio::test]
async fn a_local_service_may_refuse() {
    struct Shut;
    impl LocalService for Shut {
        fn open(&self) -> io::Result<Box<dyn Duplex>> {
            Err(io::ErrorKind::ConnectionRefused.into())
        }
    }
    let connector = Connector::new().with_local("shut", Arc::new(Shut));
    assert!(connector.connect("local:shut").await.unwrap_err().is_absent());
}

#[tokio::test]
async fn tcp_and_abstract_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp:{}", listener.local_addr().unwrap());
    let service = async {
        let mut peer = Peer::new(listener.accept().await.unwrap().0);
        peer.greet(&[]).await;
        peer.serve().await;
    };
    let calls = async {
        let client = Client::connect(address).await.unwrap();
        assert_eq!(client.call::<Parcel>(ECHO, &Parcel::new(1)).await.unwrap(), Parcel::new(1));
    };
    tokio::join!(service, calls);

    use std::os::linux::net::SocketAddrExt;
    let name = format!("postroom-client-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::UnixListener::from_std(listener).unwrap();
    let service = async {
        let mut peer = Peer::new(listener.accept().await.unwrap().0);
        peer.greet(&[]).await;
        peer.serve().await;
    };
    let calls = async {
        let client = Client::connect(format!("unix:@{name}")).await.unwrap();
        assert_eq!(client.call::<Parcel>(ECHO, &Parcel::new(1)).await.unwrap(), Parcel::new(1));
    };
    tokio::join!(service, calls);
}

#[test]
fn without_a_runtime_it_says_so() {
    let mut connect = Box::pin(Client::connect("unix:/nowhere"));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::future::Future::poll(connect.as_mut(), &mut context) {
        std::task::Poll::Ready(Err(error)) => assert!(matches!(error.problem(), ConnectProblem::NoRuntime), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn locations_read_as_they_are_written() {
    for text in ["unix:/run/x", "unix:@x", "tcp:localhost:1", "tcp:[::1]:80", "local:disks"] {
        assert_eq!(text.parse::<Location>().unwrap().to_string(), text);
    }
}

#[test]
fn handles_go_anywhere() {
    fn anywhere<T: Clone + Send + Sync + 'static>() {}
    anywhere::<Client>();
    anywhere::<Connector>();
    anywhere::<postroom_client::Program>();
    anywhere::<postroom_client::blocking::Client>();
    anywhere::<ConnectError>();
    fn future<T: Send>(_: impl Fn(Client) -> T) {}
    future(|client| async move { client.call::<Parcel>("echo.echo", &1).await });
}
