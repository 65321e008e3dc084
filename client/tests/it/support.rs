//! A service that a test plays itself: it accepts, reads packets, and answers what the test says.

use std::io;
use std::sync::Arc;

use postroom_client::{Client, ClientBuilder, Connector, Duplex, LocalService, Procedure};
use postroom_protocol::{Error, Header, PacketType, Splitter, Status, Step, codec, encode_announcement, packet};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub(crate) const PROGRAM: u32 = 0x6563_686f;
pub(crate) const ECHO: Procedure = Procedure::new(PROGRAM, 1, 1);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Parcel {
    pub(crate) id: u64,
    pub(crate) data: ByteBuf,
}

impl Parcel {
    pub(crate) fn new(id: u64) -> Self {
        Self { id, data: ByteBuf::from(vec![id as u8; 16]) }
    }
}

/// Where connections to `local:test` arrive.
pub(crate) struct Door {
    accepted: UnboundedReceiver<DuplexStream>,
    pub(crate) connector: Connector,
}

struct Opener(UnboundedSender<DuplexStream>);

impl LocalService for Opener {
    fn open(&self) -> io::Result<Box<dyn Duplex>> {
        let (here, there) = tokio::io::duplex(64 * 1024);
        self.0.send(there).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(Box::new(here))
    }
}

impl Door {
    pub(crate) fn new() -> Self {
        let (sender, accepted) = unbounded_channel();
        Self { accepted, connector: Connector::new().with_local("test", Arc::new(Opener(sender))) }
    }

    pub(crate) async fn accept(&mut self) -> Peer {
        Peer::new(self.accepted.recv().await.expect("a connection"))
    }

    /// Stops accepting: from now on connecting is refused.
    pub(crate) fn shut(&mut self) {
        self.accepted.close();
    }
}

/// A client that is connected to a peer that the test plays.
pub(crate) async fn connect_as(
    limits: &[(&str, u64)],
    configure: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> (Client, Peer, Door) {
    let mut door = Door::new();
    let builder = configure(door.connector.builder());
    let (client, peer) = tokio::join!(builder.connect("local:test"), async {
        let mut peer = door.accept().await;
        peer.greet(limits).await;
        peer
    });
    (client.expect("connected"), peer, door)
}

pub(crate) async fn connect() -> (Client, Peer, Door) {
    connect_as(&[], |builder| builder.keepalive(None)).await
}

/// The service's end of one connection.
pub(crate) struct Peer {
    stream: Box<dyn Duplex>,
    splitter: Splitter,
    /// What was read and not split yet.
    rest: Vec<u8>,
}

pub(crate) type Received = (Header, Vec<u8>);

impl Peer {
    pub(crate) fn new(stream: impl Duplex + 'static) -> Self {
        Self { stream: Box::new(stream), splitter: Splitter::new(u32::MAX), rest: Vec::new() }
    }

    /// The next packet, or nothing at the end of input.
    pub(crate) async fn packet(&mut self) -> Option<Received> {
        loop {
            let mut input = &self.rest[..];
            let step = self.splitter.next(&mut input, 0).expect("a packet");
            let packet = match step {
                Step::Packet(packet) => Some((packet.header, packet.payload.to_vec())),
                _ => None,
            };
            self.rest = input.to_vec();
            if packet.is_some() {
                return packet;
            }
            let mut chunk = vec![0; 64 * 1024];
            match self.stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.rest.extend_from_slice(&chunk[..n]),
            }
        }
    }

    /// The next packet, which is a call.
    pub(crate) async fn call(&mut self) -> Received {
        let (header, payload) = self.packet().await.expect("a call, not the end");
        assert!(header.is_call(), "{header:?}");
        (header, payload)
    }

    pub(crate) async fn greet(&mut self, limits: &[(&str, u64)]) {
        #[derive(Serialize)]
        struct Welcome<'a> {
            service: &'a str,
            version: &'a str,
            client_id: u64,
            limits: std::collections::BTreeMap<&'a str, u64>,
            features: [&'a str; 1],
        }
        let (header, _) = self.call().await;
        assert_eq!((header.program, header.version, header.procedure), (0x6469_7265, 1, 1));
        let limits = limits.iter().copied().collect();
        let welcome = Welcome { service: "test", version: "1.2", client_id: 7, limits, features: ["metadata"] };
        self.reply(&header, &welcome).await;
    }

    pub(crate) async fn reply(&mut self, header: &Header, result: &impl Serialize) {
        let mut bytes = Vec::new();
        codec::encode(result, &mut bytes).expect("a result");
        self.send(&header.reply(Status::Ok), &bytes).await;
    }

    pub(crate) async fn echo(&mut self, (header, payload): &Received) {
        self.send(&header.reply(Status::Ok), payload).await;
    }

    pub(crate) async fn fail(&mut self, header: &Header, error: &Error) {
        let mut bytes = Vec::new();
        postroom_protocol::encode_reply_error(header, error, &mut bytes);
        self.raw(&bytes).await;
    }

    pub(crate) async fn announce(&mut self, error: &Error) {
        let mut bytes = Vec::new();
        encode_announcement(error, &mut bytes);
        self.raw(&bytes).await;
    }

    pub(crate) async fn send(&mut self, header: &Header, payload: &[u8]) {
        let mut bytes = Vec::new();
        packet::encode_packet(header, payload, &mut bytes);
        self.raw(&bytes).await;
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the client reads");
    }

    /// Echoes every call until the client is gone.
    pub(crate) async fn serve(mut self) {
        while let Some(received) = self.packet().await {
            if received.0.packet_type == PacketType::Call {
                self.echo(&received).await;
            }
        }
    }
}
