//! The server: what one read brought is answered in one write. Connections share their buffers, so that an idle one has
//! none; only a packet larger than half of that buffer gets one of its own.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::{UnixListener, UnixStream};

use crate::Result;
use crate::load::calls::on_one_thread;

const BUFFER: usize = 256 * 1024;
/// The word that says what a packet is, and a reply's.
const KIND: usize = 16;
const REPLY: [u8; 4] = [0, 0, 0, 1];
const HEAD: usize = 28;
const LONGEST: usize = 64 << 20;

/// What all connections share, for as long as one of them reads and makes its replies.
struct Buffers {
    input: Vec<u8>,
    output: Vec<u8>,
}

pub fn serve(path: &Path) -> Result<()> {
    on_one_thread(async {
        let listener = UnixListener::bind(path)?;
        let buffers = Rc::new(RefCell::new(Buffers { input: vec![0; BUFFER], output: Vec::new() }));
        loop {
            let (stream, _) = listener.accept().await?;
            let buffers = buffers.clone();
            tokio::task::spawn_local(async move {
                // A client that has left ends it.
                let _ = serve_one(stream, &buffers).await;
            });
        }
    })
}

async fn serve_one(mut stream: UnixStream, buffers: &RefCell<Buffers>) -> io::Result<()> {
    // The beginning of a packet.
    let mut rest = Vec::new();
    loop {
        if let Some(len) = packet_len(&rest)?
            && len > BUFFER / 2
        {
            let missing = len - rest.len();
            rest.reserve_exact(missing);
            while rest.len() < len {
                let missing = (len - rest.len()) as u64;
                if (&mut stream).take(missing).read_buf(&mut rest).await? == 0 {
                    return Ok(());
                }
            }
            rest[KIND..KIND + 4].copy_from_slice(&REPLY);
            stream.write_all(&rest).await?;
            rest.clear();
        }
        let mut output = Vec::new();
        let n_read = poll_fn(|context| {
            let mut shared = buffers.borrow_mut();
            let Buffers { input, output: kept } = &mut *shared;
            let mut buffer = ReadBuf::new(&mut input[rest.len()..]);
            ready!(Pin::new(&mut stream).poll_read(context, &mut buffer))?;
            let n_read = buffer.filled().len();
            input[..rest.len()].copy_from_slice(&rest);
            std::mem::swap(&mut output, kept);
            let input = &input[..rest.len() + n_read];
            let used = answer(input, &mut output)?;
            rest.clear();
            rest.extend_from_slice(&input[used..]);
            Poll::Ready(io::Result::Ok(n_read))
        })
        .await?;
        if n_read == 0 {
            return Ok(());
        }
        if rest.is_empty() && rest.capacity() > 0 {
            rest = Vec::new();
        }
        stream.write_all(&output).await?;
        output.clear();
        buffers.borrow_mut().output = output;
    }
}

/// The replies to all packets that are there as a whole, and how long these are.
fn answer(input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
    let mut at = 0;
    while let Some(len) = packet_len(&input[at..])?
        && len <= input.len() - at
    {
        let start = output.len();
        output.extend_from_slice(&input[at..at + len]);
        output[start + KIND..start + KIND + 4].copy_from_slice(&REPLY);
        at += len;
    }
    Ok(at)
}

fn packet_len(input: &[u8]) -> io::Result<Option<usize>> {
    let Some(word) = input.first_chunk::<4>() else {
        return Ok(None);
    };
    match u32::from_be_bytes(*word) as usize {
        len @ HEAD..=LONGEST => Ok(Some(len)),
        len => Err(io::Error::other(format!("a packet of {len} bytes"))),
    }
}
