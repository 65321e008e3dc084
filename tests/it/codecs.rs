//! Programs whose payloads are XDR: calls, every kind of error, and a libvirt client that finds its way.

use std::process::Command;

use actix::prelude::*;
use postroom::libvirt::{self, ErrorCode, ErrorDomain, RemoteError};
use postroom::{Call, Codec, Config, Error, Program, xdr};
use postroom_protocol::{HEADER_LEN, Header, Metadata, PacketType, Status};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::support::*;

/// libvirt's program `remote`.
const REMOTE: u32 = 0x2000_8086;
const OPEN: i32 = 1;
const CLOSE: i32 = 2;
const GET_HOSTNAME: i32 = 59;
const SUPPORTS_FEATURE: i32 = 60;
const AUTH_LIST: i32 = 66;
const LOOKUP: i32 = 23;
/// None of libvirt's.
const GATE: i32 = 1001;
const GATE_ASYNC: i32 = 1002;
const PANIC: i32 = 1003;
const OPAQUE: i32 = 1004;
const UNENCODABLE: i32 = 1005;

struct Remote(Gate);

impl Actor for Remote {
    type Context = Context<Self>;
}

macro_rules! message {
    ($name:ident $fields:tt -> $result:tt) => {
        #[derive(Deserialize, Message)]
        #[rtype(result = $result)]
        struct $name $fields
    };
}

#[derive(Deserialize, Message)]
#[rtype(result = "Result<Vec<AuthType>, Error>")]
struct AuthList;

#[derive(Serialize)]
enum AuthType {
    None,
}

message!(Open { _name: Option<String>, _flags: u32 } -> "Result<(), Error>");
message!(Feature { _feature: i32 } -> "Result<i32, Error>");
message!(Lookup { name: String } -> "Result<(), Error>");
message!(Pass { door: u64 } -> "Result<u32, Error>");
message!(PassAsync { door: u64 } -> "Result<u32, Error>");
message!(Opaque { length: u32 } -> "Result<ByteBuf, Error>");

#[derive(Deserialize, Message)]
#[rtype(result = "Result<(), Error>")]
struct Close;

#[derive(Deserialize, Message)]
#[rtype(result = "Result<String, Error>")]
struct GetHostname;

#[derive(Deserialize, Message)]
#[rtype(result = "Result<u32, Error>")]
struct Panic;

#[derive(Deserialize, Message)]
#[rtype(result = "Result<std::collections::BTreeMap<u32, u32>, Error>")]
struct Unencodable;

impl Handler<Call<AuthList>> for Remote {
    type Result = Result<Vec<AuthType>, Error>;
    fn handle(&mut self, _: Call<AuthList>, _: &mut Self::Context) -> Self::Result {
        Ok(vec![AuthType::None])
    }
}

impl Handler<Call<Open>> for Remote {
    type Result = Result<(), Error>;
    fn handle(&mut self, _: Call<Open>, _: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

impl Handler<Call<Close>> for Remote {
    type Result = Result<(), Error>;
    fn handle(&mut self, _: Call<Close>, _: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

impl Handler<Call<Feature>> for Remote {
    type Result = Result<i32, Error>;
    fn handle(&mut self, _: Call<Feature>, _: &mut Self::Context) -> Self::Result {
        Ok(0)
    }
}

impl Handler<Call<GetHostname>> for Remote {
    type Result = Result<String, Error>;
    fn handle(&mut self, _: Call<GetHostname>, _: &mut Self::Context) -> Self::Result {
        Ok("postroom.example".to_owned())
    }
}

impl Handler<Call<Lookup>> for Remote {
    type Result = Result<(), Error>;
    fn handle(&mut self, call: Call<Lookup>, _: &mut Self::Context) -> Self::Result {
        let message = format!("Domain not found: no domain with matching name '{}'", call.args.name);
        Err(libvirt::error(ErrorCode::NO_DOMAIN, ErrorDomain::TEST, message))
    }
}

impl Handler<Call<Pass>> for Remote {
    type Result = Result<u32, Error>;
    fn handle(&mut self, call: Call<Pass>, _: &mut Self::Context) -> Self::Result {
        self.0.pass(call.args.door);
        Ok(7)
    }
}

impl Handler<Call<PassAsync>> for Remote {
    type Result = ResponseFuture<Result<u32, Error>>;
    fn handle(&mut self, call: Call<PassAsync>, _: &mut Self::Context) -> Self::Result {
        let gate = self.0.clone();
        Box::pin(async move {
            gate.pass_async(call.args.door).await;
            Ok(8)
        })
    }
}

impl Handler<Call<Panic>> for Remote {
    type Result = Result<u32, Error>;
    fn handle(&mut self, _: Call<Panic>, _: &mut Self::Context) -> Self::Result {
        panic!("as asked");
    }
}

impl Handler<Call<Opaque>> for Remote {
    type Result = Result<ByteBuf, Error>;
    fn handle(&mut self, call: Call<Opaque>, _: &mut Self::Context) -> Self::Result {
        Ok(ByteBuf::from(vec![7; call.args.length as usize]))
    }
}

impl Handler<Call<Unencodable>> for Remote {
    type Result = Result<std::collections::BTreeMap<u32, u32>, Error>;
    fn handle(&mut self, _: Call<Unencodable>, _: &mut Self::Context) -> Self::Result {
        Ok([(1, 1)].into())
    }
}

/// libvirt's program, as far as virsh needs it, and some procedures of the tests' own.
pub fn remote(gate: &Gate) -> Program {
    let gate = gate.clone();
    Program::new("remote", REMOTE, 1)
        .codec(Codec::Xdr)
        .handler(move || Remote(gate.clone()))
        .inline::<AuthList>(AUTH_LIST, "auth_list")
        .inline::<Feature>(SUPPORTS_FEATURE, "connect_supports_feature")
        .inline::<Close>(CLOSE, "connect_close")
        .procedure::<Open>(OPEN, "connect_open")
        .procedure::<GetHostname>(GET_HOSTNAME, "connect_get_hostname")
        .procedure::<Lookup>(LOOKUP, "domain_lookup_by_name")
        .procedure::<Pass>(GATE, "gate")
        .asynchronous::<PassAsync>(GATE_ASYNC, "gate_async")
        .procedure::<Panic>(PANIC, "panic")
        .procedure::<Opaque>(OPAQUE, "opaque")
        .inline::<Unencodable>(UNENCODABLE, "unencodable")
        .into()
}

fn service(configure: impl FnOnce(&mut Config)) -> TestService {
    TestService::with_programs(|shared| vec![remote(&shared.gate)], configure)
}

fn xdr<T: Serialize>(value: T) -> Vec<u8> {
    let mut out = Vec::new();
    xdr::encode(&value, &mut out).unwrap();
    out
}

/// What the next packet says of a call that has failed.
#[track_caller]
fn refusal(client: &mut Client, serial: u32) -> RemoteError {
    let Packet { header, payload } = client.packet();
    assert_eq!((header.serial, header.packet_type, header.status), (serial, PacketType::Reply, Status::Error));
    RemoteError::decode(&payload).unwrap()
}

#[track_caller]
fn is(error: &RemoteError, code: i32, domain: i32, message: &str) {
    assert_eq!((error.code.0, error.domain.0, error.level), (code, domain, 2), "{error:?}");
    assert!(error.message.as_deref().unwrap().contains(message), "{error:?}");
}

#[test]
fn arguments_and_results_of_such_a_program_are_xdr_in_every_class() {
    let service = service(|_| {});
    let mut client = service.client();
    service.gate().open(1);
    // As recorded between libvirt's own client and daemon.
    for (serial, procedure, arguments, result) in [
        (0, AUTH_LIST, &b""[..], &b"\0\0\0\x01\0\0\0\0"[..]),
        (1, SUPPORTS_FEATURE, b"\0\0\0\x0a", b"\0\0\0\0"),
        (2, OPEN, b"\0\0\0\x01\0\0\0\x0ftest:///default\0\0\0\0\x06", b""),
        (3, GET_HOSTNAME, b"", b"\0\0\0\x10postroom.example"),
        (4, GATE, b"\0\0\0\0\0\0\0\x01", b"\0\0\0\x07"),
        (5, GATE_ASYNC, b"\0\0\0\0\0\0\0\x01", b"\0\0\0\x08"),
        (6, OPAQUE, b"\0\0\0\x03", b"\0\0\0\x03\x07\x07\x07\0"),
        (7, CLOSE, b"", b""),
    ] {
        client.send(&call(REMOTE, procedure, serial, arguments));
        let packet = client.packet();
        let header = Header { packet_type: PacketType::Reply, ..header(REMOTE, 1, procedure, serial) };
        assert_eq!(packet, Packet { header, payload: result.to_vec() });
    }
    // The other programs of the same connection are as ever.
    client.is_usable();
}

#[test]
fn whatever_goes_wrong_with_a_call_is_told_as_libvirt_tells_it() {
    let service = service(|_| {});
    let mut client = service.client();
    client.send(&call(REMOTE, 443, 1, b""));
    is(&refusal(&mut client, 1), 39, 7, "unknown procedure: 443");
    client.send(&packet(header(REMOTE, 9, OPEN, 2), b""));
    is(&refusal(&mut client, 2), 39, 7, "Cannot find program 536903814 version 9");
    client.send(&call(REMOTE, OPEN, 3, b"\0\0\0\x07"));
    is(&refusal(&mut client, 3), 8, 7, "at offset 0");
    client.send(&call(REMOTE, GET_HOSTNAME, 4, b"\0\0\0\0"));
    is(&refusal(&mut client, 4), 8, 7, "offset 0");
    client.send(&call(REMOTE, LOOKUP, 5, &xdr("tea")));
    is(&refusal(&mut client, 5), 42, 12, "no domain with matching name 'tea'");
    client.send(&call(REMOTE, PANIC, 6, b""));
    is(&refusal(&mut client, 6), 1, 7, "incident");
    client.send(&call(REMOTE, UNENCODABLE, 7, b""));
    is(&refusal(&mut client, 7), 1, 7, "incident");
    client.send(&packet(Header { status: Status::Error, ..header(REMOTE, 1, OPEN, 8) }, b""));
    is(&refusal(&mut client, 8), 39, 7, "a call has status 0, not 1");
    client.is_usable();
}

#[test]
fn calls_that_end_early_are_told_so_in_xdr_too() {
    let service = service(|_| {});
    let mut client = service.client();
    let mut payload = Vec::new();
    postroom_protocol::metadata::encode(&Metadata { deadline_ms: Some(1), ..Metadata::default() }, &mut payload);
    // The metadata are a MessagePack map, and what follows is XDR.
    payload.extend(xdr(1_u64));
    let late = Header { packet_type: PacketType::CallWithMetadata, ..header(REMOTE, 1, GATE_ASYNC, 1) };
    client.send(&packet(late, &payload));
    is(&refusal(&mut client, 1), 68, 7, "deadline of 1 ms");
    for procedure in [GATE, GATE_ASYNC] {
        client.send(&call(REMOTE, procedure, 2, &xdr(2_u64)));
        client.send(&packet(Header { packet_type: PacketType::Cancel, ..header(REMOTE, 1, procedure, 2) }, &[]));
        is(&refusal(&mut client, 2), 78, 7, "cancelled");
    }
    let broken = Header { packet_type: PacketType::CallWithMetadata, ..header(REMOTE, 1, GATE, 3) };
    client.send(&packet(broken, b"\xc1"));
    is(&refusal(&mut client, 3), 8, 7, "");
}

#[test]
fn limits_speak_xdr_to_such_a_program() {
    let service = service(|config| {
        config.limits.min_workers = 1;
        config.limits.max_pending_calls = 1;
        config.limits.max_packet = 1024;
        config.limits.poison_after = 2;
    });
    let mut client = service.client();
    client.send(&call(REMOTE, OPAQUE, 1, &xdr(2000_u32)));
    is(&refusal(&mut client, 1), 39, 7, "max_packet is 1024");
    client.send(&call(REMOTE, LOOKUP, 2, &vec![0; 1025 - HEADER_LEN]));
    is(&refusal(&mut client, 2), 39, 7, "max_packet is 1024");
    // An error that is too long for a packet is cut, and has lost no more than its end.
    client.send(&call(REMOTE, LOOKUP, 3, &xdr("x".repeat(940))));
    is(&refusal(&mut client, 3), 42, 12, "cut: over max_packet = 1024 bytes");
    for serial in 4..6 {
        client.send(&call(REMOTE, PANIC, serial, b""));
        is(&refusal(&mut client, serial), 1, 7, "incident");
    }
    client.send(&call(REMOTE, PANIC, 6, b""));
    is(&refusal(&mut client, 6), 55, 7, "");

    // One runs, one waits, and a third is too many.
    client.send(&call(REMOTE, GATE, 7, &xdr(1_u64)));
    service.gate().wait_for(1);
    client.send(&call(REMOTE, GATE, 8, &xdr(1_u64)));
    client.send(&call(REMOTE, GATE, 9, &xdr(1_u64)));
    is(&refusal(&mut client, 9), 87, 7, "max_pending_calls is 1");
}

#[test]
fn a_call_that_does_not_finish_before_the_service_stops_is_told_in_xdr() {
    let service = service(|config| config.limits.shutdown_timeout = std::time::Duration::from_millis(1));
    let mut client = service.client();
    client.send(&call(REMOTE, GATE_ASYNC, 1, &xdr(1_u64)));
    service.gate().wait_for(1);
    service.stop();
    is(&refusal(&mut client, 1), 87, 7, "shutting down");
    assert_eq!(client.announcement().code(), "shutting_down");
}

#[test]
fn who_calls_a_program_that_is_not_there_reads_xdr_if_it_is_one_of_libvirts() {
    let service = TestService::start();
    let mut client = service.client();
    client.send(&call(REMOTE, AUTH_LIST, 1, b""));
    is(&refusal(&mut client, 1), 39, 7, "Cannot find program 536903814 version 1");
    client.send(&call(0x1234_5678, 1, 2, b""));
    assert_eq!(client.error(2).code(), "unknown_program");
}

#[test]
fn the_directory_says_who_speaks_xdr_and_the_command_line_does_not_pretend_to() {
    let service = service(|_| {});
    let to = service.address(0).to_string();
    let run = |arguments: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_postroom")).args(arguments).args(["--to", &to]).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code(), text(done.stdout), text(done.stderr))
    };
    let (_, list, _) = run(&["list"]);
    assert!(list.contains("remote version 1 (0x20008086), XDR\n"), "{list}");
    assert!(list.contains("echo version 1 (0x6563686f)\n"), "{list}");
    let (_, json, _) = run(&["list", "--json"]);
    assert!(json.contains("\"codec\": \"xdr\"") && json.contains("\"codec\": \"messagepack\""), "{json}");
    let (status, output, errors) = run(&["call", "remote.connect_get_hostname"]);
    assert_eq!((status, output.as_str()), (Some(1), ""));
    assert!(errors.contains("unsupported: program remote version 1 speaks XDR"), "{errors}");
    let (status, help, _) = run(&["call", "--help", "remote.connect_get_hostname"]);
    assert!(status == Some(0) && help.contains("XDR has no schema"), "{help}");
}

/// What virsh prints when it is run on this service; nothing where there is no virsh.
fn virsh(service: &TestService, arguments: &[&str]) -> Option<(Option<i32>, String, String)> {
    let socket = service.address(0).to_string();
    let uri = format!("test+unix:///default?socket={}", socket.strip_prefix("unix:").unwrap());
    let Ok(done) = Command::new("virsh").arg("-c").arg(uri).args(arguments).env("LC_ALL", "C").output() else {
        println!("skipped: there is no virsh");
        return None;
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    Some((done.status.code(), text(done.stdout), text(done.stderr)))
}

#[test]
fn virsh_connects_calls_and_leaves() {
    let service = service(|_| {});
    let Some(done) = virsh(&service, &["hostname"]) else { return };
    assert_eq!(done, (Some(0), "postroom.example".to_owned(), String::new()));
}

#[test]
fn virsh_prints_what_a_handler_and_the_service_refuse() {
    let service = service(|_| {});
    let Some((status, _, errors)) = virsh(&service, &["domid", "tea"]) else { return };
    assert_eq!(status, Some(1), "{errors}");
    assert!(errors.contains("failed to get domain 'tea'"), "{errors}");
    let (status, _, errors) = virsh(&service, &["nodeinfo"]).unwrap();
    assert_eq!(status, Some(1), "{errors}");
    assert!(errors.contains("unknown procedure: 6"), "{errors}");
    // Where there is no such program at all.
    let (status, _, errors) = virsh(&TestService::start(), &["hostname"]).unwrap();
    assert_eq!(status, Some(1), "{errors}");
    assert!(errors.contains("Cannot find program 536903814 version 1"), "{errors}");
}
