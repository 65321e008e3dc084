//! Streams that do not block, which libvirt reads when the loop says so.

use std::ffi::{c_int, c_void};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::{mem, ptr, thread};

use virt::connect::Connect;
use virt_sys::*;

use crate::support::{Daemon, PATIENCE, the_loop};

/// Would block.
const LATER: c_int = -2;

/// What was read so far, and where it goes at the end.
struct Reading {
    bytes: Vec<u8>,
    done: Sender<Vec<u8>>,
}

unsafe extern "C" fn on_readable(stream: virStreamPtr, events: c_int, reading: *mut c_void) {
    assert_eq!(thread::current().id(), the_loop().thread());
    // SAFETY: it is what was added, and not freed yet; callbacks of one stream run one at a time.
    let reading = unsafe { &mut *reading.cast::<Reading>() };
    let mut buffer = [0; 1024];
    loop {
        // SAFETY: the stream is libvirt's for the length of the call, and the buffer is that long.
        let n_read = unsafe { virStreamRecv(stream, buffer.as_mut_ptr().cast(), buffer.len()) };
        match n_read {
            LATER => return,
            1.. => reading.bytes.extend(&buffer[..n_read as usize]),
            // The end, or an error, after which the picture is not all there.
            _ => break,
        }
    }
    assert_ne!(events, 0);
    let (bytes, done) = (mem::take(&mut reading.bytes), reading.done.clone());
    // SAFETY: as above. `reading` may be freed by this, and is not used any more.
    unsafe { virStreamEventRemoveCallback(stream) };
    done.send(bytes).ok();
}

unsafe extern "C" fn on_free(reading: *mut c_void) {
    // SAFETY: it was made by `Box::into_raw`, and libvirt frees it once; with it goes the sender.
    drop(unsafe { Box::from_raw(reading.cast::<Reading>()) });
}

/// Takes the picture of a domain, which comes by a stream. Returns what the loop has read, and what tells that the
/// callback's `opaque` was freed: nothing more can come.
fn screenshot(connection: &Connect) -> (Vec<u8>, Receiver<Vec<u8>>) {
    let domain = connection.lookup_domain_by_name("test").unwrap();
    let (done, is_done): (_, Receiver<Vec<u8>>) = mpsc::channel();
    let reading = Box::into_raw(Box::new(Reading { bytes: Vec::new(), done }));
    // SAFETY: connection and domain are open; the functions take `reading`, which is libvirt's now.
    let stream = unsafe {
        let stream = virStreamNew(connection.as_ptr(), VIR_STREAM_NONBLOCK);
        let kind = virDomainScreenshot(domain.as_ptr(), stream, 0, 0);
        assert_ne!(kind, ptr::null_mut());
        let mask = (VIR_STREAM_EVENT_READABLE | VIR_STREAM_EVENT_HANGUP | VIR_STREAM_EVENT_ERROR) as c_int;
        let answer = virStreamEventAddCallback(stream, mask, Some(on_readable), reading.cast(), Some(on_free));
        assert_eq!(answer, 0);
        stream
    };
    let bytes = is_done.recv_timeout(PATIENCE).expect("the stream does not end");
    // SAFETY: it is the one that was made above, and its callback is gone.
    assert_eq!(unsafe { (virStreamFinish(stream), virStreamFree(stream)) }, (0, 0));
    (bytes, is_done)
}

#[test]
fn a_stream_is_read_on_the_loop_to_its_end_from_this_process_and_from_the_daemon() {
    the_loop();
    let (here, freed) = screenshot(&Connect::open(Some("test:///default")).unwrap());
    assert!(here.starts_with(b"\x89PNG") && here.ends_with(b"IEND\xaeB`\x82"), "{} bytes", here.len());
    assert_eq!(freed.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));

    let daemon = Daemon::start();
    let uri = format!("test+unix:///default?socket={}", daemon.socket().display());
    // Whether this one is freed is not the loop's doing: libvirt 9.0 forgets it, whichever loop it has.
    let (there, _) = screenshot(&Connect::open(Some(&uri)).unwrap());
    assert!(there == here, "{} of {} bytes", there.len(), here.len());
}
