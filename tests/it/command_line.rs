//! The commands that call a service: what they print, where, and with which exit status.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::support::{Binary, eventually};

/// Runs a command against a service.
fn run(service: &Binary, command: &str, arguments: &[&str]) -> Output {
    run_at(&service.address().to_string(), command, arguments)
}

fn run_at(address: &str, command: &str, arguments: &[&str]) -> Output {
    Binary::command().args([command, "--to", address]).args(arguments).output().unwrap()
}

#[track_caller]
fn json_of(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The command failed with this status, printed no result, and said all of this.
#[track_caller]
fn failed(output: &Output, status: i32, said: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    for said in said {
        assert!(text.contains(said), "{said:?} is not in: {text}");
    }
}

#[test]
fn call_prints_the_reply_as_json() {
    let service = Binary::serve("");
    let reply = json_of(&run(&service, "call", &["echo.echo", r#"{"id": 7, "data": "hello"}"#]));
    assert_eq!(reply, json!({ "id": 7, "data": { "$bin": "aGVsbG8=" } }));
    let any = r#"{"a": [1, -1, 1.5, null, true, {"$bin": "AAE="}, {"$ext": [5, "AA=="]}]}"#;
    assert_eq!(json_of(&run(&service, "call", &["echo.mirror", any])), serde_json::from_str::<Value>(any).unwrap());
    assert_eq!(json_of(&run(&service, "call", &["echo/1.sleep", r#"{"ms": 1}"#])), json!({}));
}

#[test]
fn call_reads_arguments_from_standard_input() {
    let service = Binary::serve("");
    let mut command = Binary::command();
    command.args(["call", "--to", &service.address().to_string(), "echo.mirror", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"[1, 2]").unwrap();
    assert_eq!(json_of(&child.wait_with_output().unwrap()), json!([1, 2]));
}

#[test]
fn an_error_of_the_service_prints_its_code_and_exits_with_1() {
    let service = Binary::serve("");
    let own = run(&service, "call", &["echo.fail", r#"{"code": "mine", "message": "as asked"}"#]);
    failed(&own, 1, &["mine: as asked"]);
    failed(&run(&service, "call", &["echo.panic"]), 1, &["internal: ", "incident"]);
    let late = run(&service, "call", &["--deadline", "50ms", "echo.sleep", r#"{"ms": 60000}"#]);
    failed(&late, 1, &["deadline_exceeded", "deadline of 50"]);
    // In the order of the fields, which only the service checks.
    let wrong = run(&service, "call", &["echo.echo", r#"["x", ""]"#]);
    failed(&wrong, 1, &["invalid_arguments", "expected u64"]);
}

#[test]
fn the_deadline_of_a_call_covers_connecting() {
    let service = Binary::serve("");
    // The kernel still takes connections for it, but nobody answers.
    service.signal(rustix::process::Signal::STOP);
    eventually("it has stopped", || service.usage().is_stopped());
    // If it did not, there would be another error, or none for as long as the service stands still.
    let late = run(&service, "call", &["--deadline", "300ms", "echo.quick", r#"{"id": 1, "data": ""}"#]);
    service.signal(rustix::process::Signal::CONT);
    failed(&late, 1, &["deadline_exceeded", "deadline of 300ms"]);
}

#[test]
fn a_name_that_does_not_exist_is_reported_as_the_service_would_with_the_nearest() {
    let service = Binary::serve("");
    failed(&run(&service, "call", &["ecko.echo"]), 1, &["unknown_program", "did you mean \"echo\"?"]);
    failed(&run(&service, "call", &["echo/2.echo"]), 1, &["unknown_version", "it has 1"]);
    failed(&run(&service, "call", &["echo.quik"]), 1, &["unknown_procedure", "did you mean \"quick\"?"]);
    failed(&run(&service, "call", &["echo"]), 2, &["PROGRAM.PROCEDURE"]);
}

#[test]
fn argument_names_are_checked_before_anything_is_sent() {
    let service = Binary::serve("");
    let output = run(&service, "call", &["echo.echo", r#"{"ib": 1, "data": ""}"#]);
    let said = ["invalid_arguments: ", "no argument \"ib\"; did you mean \"id\"?", "needs the argument \"id\""];
    failed(&output, 1, &said);
    for none in [&["echo.echo"][..], &["echo.echo", "{}"], &["echo.echo", "null"]] {
        failed(&run(&service, "call", none), 1, &["needs the argument \"id\"", "needs the argument \"data\""]);
    }
}

#[test]
fn an_argument_of_the_wrong_type_is_named_with_what_was_given_and_what_is_expected() {
    let service = Binary::serve("");
    let output = run(&service, "call", &["echo.echo", r#"{"data": 5, "id": "x"}"#]);
    let id = "the argument \"id\" is \"x\", a string; expected is an integer from 0 to 18446744073709551615";
    let data = "the argument \"data\" is 5, a number; expected is bytes as {\"$bin\": BASE64} or a string";
    failed(&output, 1, &["invalid_arguments: ", id, data, "`postroom call --help echo.echo` shows"]);
    assert!(!stderr(&output).contains("offset"), "{}", stderr(&output));
}

#[test]
fn arguments_that_are_no_json_are_shown() {
    failed(&run_at("unix:/nowhere", "call", &["echo.echo", "{oops"]), 2, &["no JSON", "{oops"]);
    let service = Binary::serve("");
    failed(&run(&service, "call", &["echo.mirror", r#"{"$bin": "%"}"#]), 2, &["no base64", "%"]);
}

#[test]
fn no_service_says_where_and_what_to_try() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let address = format!("unix:{}", path.display());
    for command in ["list", "bench"] {
        failed(&run_at(&address, command, &[]), 2, &[&address, "is the service running"]);
    }
    drop(UnixListener::bind(&path).unwrap());
    failed(&run_at(&address, "call", &["echo.echo"]), 2, &[&address, "is the service running"]);
    failed(&run_at("http://x", "list", &[]), 2, &["http://x", "unix:PATH"]);
}

#[test]
fn without_a_default_address_the_option_that_gives_one_is_named() {
    if rustix::process::geteuid().is_root() {
        // Root has a default always, so somebody else asks.
        let told = |command: &str| Binary::command().arg(command).arg("echo.echo").uid(65534).gid(65534).output();
        match told("call") {
            Ok(output) => failed(&output, 2, &["no default address", "--to unix:PATH"]),
            Err(error) => println!("skipped: the binary cannot be run as another user: {error}"),
        }
    } else {
        for (command, option) in
            [("list", "--to unix:PATH"), ("bench", "--to unix:PATH"), ("serve", "--listen unix:PATH")]
        {
            failed(&Binary::command().arg(command).output().unwrap(), 2, &["no default address", option]);
        }
    }
}

#[test]
fn a_service_that_is_full_says_so_once() {
    let service = Binary::serve("max_clients = 1\n");
    let mut first = service.client();
    first.is_usable();
    let output = run(&service, "list", &[]);
    failed(&output, 2, &["overloaded", &service.address().to_string()]);
    assert_eq!(stderr(&output).matches("overloaded").count(), 1, "{}", stderr(&output));
}

#[test]
fn a_socket_without_permission_says_so() {
    let service = Binary::serve("unix_sock_perms = \"0700\"\n");
    let folder = service.path().parent().unwrap();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Binary::command();
    command.args(["list", "--to", &service.address().to_string()]);
    if rustix::process::geteuid().is_root() {
        // Root may connect to anything, so somebody else tries.
        command.uid(65534).gid(65534);
    } else {
        std::fs::set_permissions(service.path(), std::fs::Permissions::from_mode(0o000)).unwrap();
    }
    match command.output() {
        Ok(output) => failed(&output, 2, &["ermission", "mode and group", "the folders above it"]),
        Err(error) => println!("skipped: the binary cannot be run as another user: {error}"),
    }
}

/// A listener that treats its one client as `serve` says.
fn fake(serve: impl FnOnce(std::os::unix::net::UnixStream) + Send + 'static) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    // Ends when its one client has come and gone.
    std::thread::spawn(move || serve(listener.accept().unwrap().0));
    (folder, format!("unix:{}", path.display()))
}

#[test]
fn a_peer_that_is_no_postroom_is_named_as_such() {
    let (_folder, address) = fake(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    failed(&run_at(&address, "list", &[]), 2, &[&address, "Postroom"]);
}

#[test]
fn a_service_that_closes_in_the_middle_is_told_from_one_that_answers() {
    let (_folder, address) = fake(|mut stream| {
        let _ = stream.read(&mut [0; 10]);
    });
    failed(&run_at(&address, "list", &[]), 2, &[&address]);
}

#[test]
fn list_shows_programs_and_how_each_procedure_runs() {
    let service = Binary::serve("");
    let output = run(&service, "list", &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<String> = text.lines().map(|it| it.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in
        ["10 echo.quick inline", "9 echo.nap blocking, priority", "3 echo.sleep async", "1 directory.clients event"]
    {
        assert!(lines.iter().any(|it| it == line), "{text}");
    }
    let listed = json_of(&run(&service, "list", &["--json"]));
    let programs = listed["programs"].as_array().unwrap();
    let echo = programs.iter().find(|program| program["name"] == "echo").unwrap();
    assert_eq!(echo["procedures"][0]["arguments"]["properties"]["id"]["type"], "integer");
    assert_eq!(echo["procedures"][0]["result"]["required"], json!(["id", "data"]));
}

#[test]
fn help_on_a_procedure_shows_its_schemas() {
    let service = Binary::serve("");
    let output = run(&service, "call", &["--help", "echo.hash"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("arguments:") && text.contains("\"data\"") && text.contains("\"sha256\""), "{text}");
    // Bytes are written as the schema says: base64 goes into $bin, a string stands for its own bytes.
    assert!(text.contains("\"$bin\": {\n") && text.contains("a string for its bytes"), "{text}");
    let hash = |arguments: &str| json_of(&run(&service, "call", &["echo.hash", arguments]));
    assert_eq!(hash(r#"{"data": {"$bin": "aGVsbG8="}}"#), hash(r#"{"data": "hello"}"#));
    let plain = Binary::command().args(["call", "--help"]).output().unwrap();
    assert!(String::from_utf8(plain.stdout).unwrap().contains("Example: postroom call"));
}

#[test]
fn bench_reports_throughput_and_latency_closed_and_open_loop() {
    let service = Binary::serve("");
    let load = ["--connections", "2", "--depth", "4", "--duration", "300ms", "--json"];
    let closed = json_of(&run(&service, "bench", &load));
    assert!(closed["calls"].as_u64().unwrap() > 0);
    assert_eq!(closed["errors"], json!({}));
    assert!(closed["latency_us"]["p99"].as_f64().unwrap() >= closed["latency_us"]["p50"].as_f64().unwrap());
    let open = json_of(&run(&service, "bench", &[&load[..], &["--rate", "500"]].concat()));
    // 300 ms at 500 a second: every call that was due was made, however late.
    assert_eq!(open["calls"], 150);
    let text = run(&service, "bench", &["--duration", "100ms", "--procedure", "echo.quick"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("calls/s") && text.contains("p99.9") && text.contains('#'), "{text}");
}

#[test]
fn bench_where_every_call_fails_exits_with_1_and_the_first_error() {
    let service = Binary::serve("");
    let output = run(&service, "bench", &["--duration", "100ms", "--procedure", "echo.fail"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("0 calls/s") && text.contains("answered with invalid_arguments"), "{text}");
    assert!(stderr(&output).starts_with("error: invalid_arguments: "), "{}", stderr(&output));
}

#[test]
fn bench_tells_what_it_has_measured_when_the_service_is_killed() {
    let mut service = Binary::serve("");
    let mut command = Binary::command();
    command.args(["bench", "--json", "--duration", "60s", "--to", &service.address().to_string()]);
    let bench = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It makes one after the other, so all but the last have had their answers taken.
    eventually("calls are made and answered", || {
        let stats = json_of(&run(&service, "list", &["--stats", "--json"]));
        let echo = stats["procedures"].as_array().unwrap().iter().find(|it| it["name"] == "echo.echo");
        echo.is_some_and(|echo| echo["outcomes"]["ok"].as_u64().unwrap_or(0) > 10)
    });
    service.signal(rustix::process::Signal::KILL);
    service.wait();
    let output = bench.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["calls"].as_u64().unwrap() > 0, "{report}");
    assert!(stderr(&output).starts_with("error: no reply: "), "{}", stderr(&output));
}

#[test]
fn bench_has_more_connections_than_its_soft_limit_of_descriptors() {
    let service = Binary::serve("");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -Sn 32; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_postroom"), "bench", "--to"]);
    command.arg(service.address().to_string()).args(["--connections", "64", "--duration", "50ms", "--json"]);
    assert_eq!(json_of(&command.output().unwrap())["connections"], 64);
}

#[test]
fn completions_the_manual_and_the_version_come_from_the_same_definition() {
    let output = |arguments: &[&str]| {
        let output = Binary::command().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "zsh", "fish"] {
        assert!(output(&["completions", shell]).contains("bench"), "{shell}");
    }
    assert!(output(&["man"]).contains("postroom bench"));
    assert_eq!(output(&["--version"]).trim(), format!("postroom {}", env!("CARGO_PKG_VERSION")));
    for command in ["serve", "call", "list", "bench", "config", "completions", "man"] {
        assert!(output(&[command, "--help"]).contains("Example: "), "{command}");
    }
}

#[test]
fn watch_prints_a_line_of_json_for_each_event_until_it_has_enough() {
    let service = Binary::serve("");
    let mut watch = Binary::command();
    watch.args(["watch", "--to", &service.address().to_string(), "directory.clients", "--count", "3"]);
    let watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("it watches", || {
        let stats = json_of(&run(&service, "list", &["--stats", "--json"]));
        stats["events"].get(0).is_some_and(|event| event["subscriptions"] == 1)
    });
    // Others come and go, these among them.
    run(&service, "call", &["echo.whoami"]);
    run(&service, "call", &["echo.whoami"]);
    let output = watch.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let lines: Vec<Value> =
        output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for line in &lines {
        assert_eq!(line["lost"], 0);
        assert_eq!((&line["value"]["transport"], &line["value"]["uid"]), (&json!("unix"), &json!(own_uid())));
    }
}

fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

#[test]
fn watch_says_why_it_cannot_watch_or_not_any_more() {
    let service = Binary::serve("");
    failed(&run(&service, "watch", &["echo.tock"]), 1, &["invalid_arguments", "echo", "no event \"tock\""]);
    failed(&run(&service, "watch", &["ecko.tick"]), 1, &["unknown_program", "\"ecko\""]);
    failed(&run(&service, "watch", &["ecko"]), 1, &["PROGRAM.EVENT"]);
    failed(&run(&service, "watch", &["directory.clients", "--queue", "5000"]), 1, &["max_event_queue = 1024"]);
    failed(&run(&service, "watch", &["directory.clients", "--overflow", "no"]), 2, &["drop-newest"]);
    let mut watch = Binary::command();
    watch.args(["watch", "--to", &service.address().to_string(), "directory.clients"]);
    let watch = watch.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("it watches", || {
        let stats = json_of(&run(&service, "list", &["--stats", "--json"]));
        stats["events"].get(0).is_some_and(|event| event["subscriptions"] == 1)
    });
    service.signal(rustix::process::Signal::TERM);
    let output = watch.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("shutting_down"), "{}", stderr(&output));
}
