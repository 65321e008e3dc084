//! Clients that speak MessagePack-RPC.

use postroom_protocol::codec;
use postroom_protocol::rpc::{Message, Scanner, Step, encode};

use super::*;

fn request(msgid: u32, method: &str, params: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::request(msgid, method, params, &mut out);
    out
}

fn notification(method: &str, params: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::notification(method, params, &mut out);
    out
}

/// What lies in the output.
fn written(client: &mut Client) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !client.output.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); crate::reader::output::PIECES];
        let count = client.output.slices(&mut slices);
        let length = slices[..count].iter().map(|slice| slice.len()).sum();
        slices[..count].iter().for_each(|slice| bytes.extend_from_slice(slice));
        client.output.advance(length);
    }
    bytes
}

/// The responses in the output: their ids, and their results or errors.
fn responses(client: &mut Client) -> Vec<(u32, Result<Vec<u8>, Error>)> {
    let bytes = written(client);
    let (mut rest, mut scanner) = (&bytes[..], Scanner::new(u32::MAX));
    let mut responses = Vec::new();
    while let Ok(Step::Message(message)) = scanner.next(&mut rest) {
        let Ok(Message::Response { msgid, outcome }) = Message::parse(&message) else { panic!("{:02x?}", &*message) };
        responses.push((msgid, outcome.map(<[u8]>::to_vec).map_err(|error| Error::decode(error).unwrap())));
    }
    assert!(rest.is_empty() && !scanner.is_mid_packet());
    responses
}

/// The ids and the codes of the errors in the output, which has no results.
fn errors(client: &mut Client) -> Vec<(u32, String)> {
    let code = |(msgid, outcome): (u32, Result<_, Error>)| (msgid, outcome.unwrap_err().code().to_string());
    responses(client).into_iter().map(code).collect()
}

#[test]
fn requests_and_notifications_are_calls_that_know_how_they_are_answered() {
    let now = Instant::now();
    let mut client = client(Limits { max_client_requests: 0, ..Limits::default() }, now);
    let mut started = Started::default();
    let input = [request(7, "p.3", &[0x91, 0x05]), notification("p.4", &[0x91, 0x81, 0xa1, b'x', 0x05])].concat();
    client.feed(&input, 0, now, &mut started);
    let [Held { accept: one, arguments: first, .. }, Held { accept: other, arguments: second, .. }] =
        &client.backlog.make_contiguous()[..]
    else {
        panic!("both wait");
    };
    assert_eq!((one.header.procedure, one.header.serial, one.form, one.entry), (3, 7, Form::Response, 3));
    assert_eq!((other.header.procedure, other.header.serial, other.form), (4, 0, Form::Nothing));
    assert_eq!((&first[..], &second[..]), (&[0x91, 0x05][..], &[0x81, 0xa1, b'x', 0x05][..]));
    // What it costs is the whole message.
    assert_eq!(one.cost as usize + other.cost as usize, input.len());
    assert!(client.output.is_empty());
}

#[test]
fn what_is_refused_is_told_to_requests_only() {
    let now = Instant::now();
    let mut client = client(Limits::default(), now);
    let mut started = Started::default();
    for method in ["y.1", "x.1"] {
        client.feed(&request(1, method, &[0xc0]), 0, now, &mut started);
        client.feed(&notification(method, &[0xc0]), 0, now, &mut started);
    }
    client.feed(&request(2, "p.1", &[0x05]), 0, now, &mut started);
    let expected = [(1, "unknown_program"), (1, "unsupported"), (2, "invalid_arguments")];
    assert_eq!(errors(&mut client), expected.map(|(msgid, code)| (msgid, code.to_owned())));
    assert!(started.0.is_empty() && client.holds().is_open);
}

#[test]
fn the_first_byte_decides_for_good() {
    let now = Instant::now();
    let mut packets = client(Limits::default(), now);
    let mut started = Started::default();
    packets.feed(&call(1, 0)[..1], 0, now, &mut started);
    packets.feed(&call(1, 0)[1..], 0, now, &mut started);
    packets.feed(&request(1, "p.1", &[0xc4; HEADER_LEN]), 0, now, &mut started);
    assert_eq!(started.0.len(), 1);
    assert!(!packets.holds().is_open);

    let mut messages = client(Limits::default(), now);
    messages.feed(&request(1, "p.1", &[])[..1], 0, now, &mut started);
    messages.feed(&request(1, "p.1", &[])[1..], 0, now, &mut started);
    messages.feed(&call(1, 0), 0, now, &mut started);
    assert_eq!(started.0.len(), 2);
    assert!(!messages.holds().is_open);
    reply(&mut messages, started.0[1].1, now);
    leave(&mut messages, now);
    messages.next(now);
    assert!(written(&mut messages).starts_with(b"\x93\x02\xa5close\x91"));
}

#[test]
fn who_has_said_nothing_is_told_in_a_packet_why_it_is_closed() {
    let now = Instant::now();
    let mut client = client(Limits::default(), now);
    client.close(Some(Error::shutting_down()));
    client.next(now);
    let bytes = written(&mut client);
    let (_, header) = Header::decode(bytes.first_chunk().unwrap());
    assert_eq!(header, Header::ANNOUNCEMENT);
}

#[test]
fn a_deadline_ends_a_request_with_an_error_and_a_notification_without_a_word() {
    let now = Instant::now();
    let mut client = client(Limits::default(), now);
    let mut started = Started::default();
    client.set_default_deadline(Duration::from_millis(5));
    client.feed(&[request(3, "p.1", &[]), notification("p.1", &[])].concat(), 0, now, &mut started);
    let later = now + Duration::from_millis(5);
    for call in started.1.clone() {
        client.deadline_passed(call, Duration::from_millis(5), later, &mut started);
    }
    let holds = client.holds();
    assert_eq!((holds.in_progress, holds.running_bytes), (1, 0), "the response has not left");
    assert_eq!(errors(&mut client), [(3, "deadline_exceeded".to_owned())]);
}

#[test]
fn a_message_that_is_held_or_half_there_has_the_times_of_a_packet() {
    let now = Instant::now();
    let limits = Limits { max_client_requests: 1, max_client_backlog: 1, ..Limits::default() };
    let timeout = limits.packet_timeout;
    let mut client = client(limits, now);
    let mut started = Started::default();
    let input = [request(0, "p.1", &[]), request(1, "p.1", &[]), request(2, "p.1", &[])[..5].to_vec()].concat();
    client.feed(&input, 0, now, &mut started);
    assert_eq!(client.wants(), Wants::Nothing);
    client.expire(now + 2 * timeout);
    assert!(client.holds().is_open);
    reply(&mut client, started.0[0].1, now);
    leave(&mut client, now);
    let later = now + 2 * timeout;
    client.pump(later, &mut started);
    assert_eq!(client.deadline(), Some(later + timeout));
    client.expire(later + timeout);
    assert!(!client.holds().is_open);
}

/// Streams of messages, good and bad, come out the same however they are cut: the same calls, the same answers.
#[test]
fn bytes_that_come_in_any_portions_change_nothing() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % bound as u64) as usize
    };
    for _ in 0..2000 {
        let mut stream = Vec::new();
        for _ in 0..1 + below(6) {
            let params = [&[][..], &[0xc0], &[0x91, 0x05], &[0x05], &[0x80]][below(5)];
            match below(9) {
                0..4 => stream.extend(request(below(1 << 20) as u32, ["p.1", "x.1", "y.1"][below(3)], params)),
                4 => stream.extend(notification(["p.1", "y.1"][below(2)], params)),
                5 => encode::response(9, &[0xc3], &mut stream),
                6 => stream.extend(request(5, "p.1", &[&[0x91, 0xc5, 0x08, 0x00][..], &[7; 0x800]].concat())),
                7 => stream.extend([0x94, 0, below(256) as u8, 0xa1, below(256) as u8]),
                _ => {
                    let at = below(stream.len() + 1);
                    stream.insert(at, below(256) as u8);
                }
            }
        }
        if !matches!(stream.first(), Some(0x93 | 0x94)) {
            continue;
        }
        let now = Instant::now();
        let run = |portion: &mut dyn FnMut() -> usize| {
            let mut client = client(Limits { max_packet: 1024, ..Limits::default() }, now);
            let mut started = Started::default();
            let mut rest = &stream[..];
            while !rest.is_empty() && client.wants() == Wants::Input {
                let (part, next) = rest.split_at(portion().min(rest.len()));
                rest = next;
                client.feed(part, 0, now, &mut started);
            }
            let answers = written(&mut client);
            let holds = client.holds();
            (started.0, answers, holds.is_open, holds.in_progress, holds.running_bytes)
        };
        let whole = run(&mut || usize::MAX);
        assert_eq!(run(&mut || 1), whole, "{stream:02x?}");
        assert_eq!(run(&mut || 1 + below(20)), whole, "{stream:02x?}");
    }
}

#[test]
fn an_answer_in_each_form_is_as_long_as_a_packet_may_be_and_no_longer() {
    let header = header(PacketType::Call, 300);
    let forms = [Form::Response, Form::Packet(Codec::MessagePack), Form::Packet(Codec::Xdr)];
    for form in forms {
        let value = "x".repeat(2000);
        let answer = |most: usize| {
            let mut out = Vec::new();
            (form.answer::<&str>(&header, Ok(&value), most as u32, &mut out), out.len())
        };
        let (verdict, length) = answer(1 << 20);
        assert_eq!(answer(length), (verdict, length), "{form:?}");
        assert_eq!(answer(length - 1).0, Verdict::of(&Error::too_large(1_u8, "", 1_u8)), "{form:?}");
        // An error that would be longer is cut.
        let mut out = Vec::new();
        form.answer::<&str>(&header, Err(Error::failed(value.clone())), 1024, &mut out);
        assert!(out.len() < 1024, "{form:?}: {} bytes", out.len());
    }
    let mut out = Vec::new();
    let failed = Form::Nothing.answer::<&str>(&header, Err(Error::failed("x")), 100, &mut out);
    assert_eq!((failed, out.len()), (Verdict::of(&Error::failed("x")), 0));
    assert_eq!(Form::Nothing.answer::<&str>(&header, Ok("x"), 100, &mut out), Verdict::OK);
    assert!(out.is_empty());
    // The arguments of messages are those of packets.
    let mut seven = Vec::new();
    codec::encode(&7_u8, &mut seven).unwrap();
    assert_eq!(Form::Response.decode::<u8>(&Bytes::from(seven).into()).unwrap(), 7);
}
