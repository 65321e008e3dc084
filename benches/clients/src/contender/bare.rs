//! The limit: a server that writes back what it reads, and a client without calls. A packet is the number and the
//! bytes; the replies of one read are answered by the next packets in one write.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::load::{Load, PAYLOAD, Tally};
use crate::{Result, server};

const ID_LEN: usize = size_of::<u64>();
const PACKET_LEN: usize = ID_LEN + PAYLOAD.len();
const BUFFER: usize = 64 * 1024;

pub async fn serve(path: &Path) -> Result<()> {
    let listener = UnixListener::bind(path)?;
    server::ready();
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut buffer = vec![0; BUFFER];
            // A client that has left ends it.
            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..n]).await.is_err() {
                    break;
                }
            }
        });
    }
}

pub async fn connect(path: &Path, depth: usize, load: &mut Load) -> Result<()> {
    let stream = UnixStream::connect(path).await?;
    load.spawn(calls(stream, depth, load.tally()));
    Ok(())
}

async fn calls(mut stream: UnixStream, depth: usize, tally: Arc<Tally>) -> Result<()> {
    let (mut input, mut output) = (Vec::with_capacity(BUFFER), Vec::new());
    let mut next_id = 0_u64;
    // The calls under way, oldest first: replies come in order.
    let mut sent = VecDeque::new();
    let mut n_to_send = depth;
    while n_to_send > 0 || !sent.is_empty() {
        let now = Instant::now();
        for _ in 0..n_to_send {
            output.extend_from_slice(&next_id.to_ne_bytes());
            output.extend_from_slice(&PAYLOAD);
            sent.push_back((next_id, now));
            next_id += 1;
        }
        stream.write_all(&output).await?;
        output.clear();
        if stream.read_buf(&mut input).await? == 0 {
            return Err("the server closed the connection".into());
        }
        let packets = input.chunks_exact(PACKET_LEN);
        let n_replies = packets.len();
        for packet in packets {
            let (id, start) = sent.pop_front().ok_or("more replies than calls")?;
            if packet[..ID_LEN] != id.to_ne_bytes() || packet[ID_LEN..] != PAYLOAD {
                return Err(format!("call {id} got a reply that is not its own").into());
            }
            tally.answered(start);
        }
        input.drain(..n_replies * PACKET_LEN);
        n_to_send = if tally.is_over() { 0 } else { n_replies };
    }
    Ok(())
}
