//! Clients that were not written for this service: the MessagePack-RPC of Python, Neovim and Node.js, with the scripts
//! that users are shown. `./test` installs what they need; where it could not, the tests say that they are skipped.

use std::process::{Command, Output};

use crate::examples::source;
use crate::support::*;

fn run(mut command: Command) -> Output {
    command.env_remove("POSTROOM_ADDRESS");
    command.output().unwrap()
}

/// Whether a client is there; else says that it is skipped.
fn is_there(name: &str, mut command: Command) -> bool {
    let is_there = command.output().is_ok_and(|done| done.status.success());
    if !is_there {
        println!("skipped: there is no {name}; ./test installs it where it can");
    }
    is_there
}

/// What the script has printed; it must have done so without an error.
#[track_caller]
fn lines(output: &Output) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

/// How many calls of `echo.mirror` have a result: those whose answers nobody wants are over soon too.
#[track_caller]
fn mirrored(service: &Binary, calls: u64) {
    let mut client = service.client();
    eventually("all calls have run", || {
        let stats = client.call(DIRECTORY, 3, &[]);
        let procedures = stats["procedures"].as_array().unwrap();
        let mirror = procedures.iter().find(|procedure| procedure["name"].as_str() == Some("echo.mirror"));
        mirror.and_then(|mirror| mirror["outcomes"]["ok"].as_u64()) == Some(calls)
    });
}

#[test]
fn msgpack_rpc_python_calls_fails_notifies_and_pipelines() {
    let python = std::env::var_os("POSTROOM_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let command = || {
        let mut command = Command::new(&python);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        if let Some(packages) = std::env::var_os("POSTROOM_TEST_PYTHON_RPC") {
            command.env("PYTHONPATH", packages);
        }
        command
    };
    let mut check = command();
    check.args(["-c", "import msgpackrpc"]);
    if !is_there("msgpack-rpc-python", check) {
        return;
    }
    let service = Binary::serve_with("", &["--listen", "tcp:127.0.0.1:0"]);
    let tcp = service.address().to_string();
    let (host, port) = tcp.strip_prefix("tcp:").unwrap().rsplit_once(':').unwrap();
    let mut script = command();
    script.arg(source("messagepack-rpc/call.py")).args([host, port]);
    let expected =
        ["by name: 7", "in order: 8", "error: tea - there is no tea", "notified", "pipelined: 1000"].map(str::to_owned);
    assert_eq!(lines(&run(script)), expected);
    mirrored(&service, 1001);
}

#[test]
fn neovim_calls_fails_notifies_and_pipelines() {
    let mut check = Command::new("nvim");
    check.arg("--version");
    if !is_there("Neovim", check) {
        return;
    }
    let service = Binary::serve("");
    let address = service.address().to_string();
    let mut script = Command::new("nvim");
    script.args(["--headless", "-u", "NONE", "-c"]);
    script.arg(format!("luafile {}", source("messagepack-rpc/call.lua").display()));
    script.env("POSTROOM_SOCKET", address.strip_prefix("unix:").unwrap());
    let expected = ["by name: 7", "in order: 8", "failed: true", "notified", "in turn: 1000"].map(str::to_owned);
    assert_eq!(lines(&run(script)), expected);
    // A thousand notifications went ahead of as many requests.
    mirrored(&service, 2001);
}

#[test]
fn msgpack_rpc_lite_of_node_calls_fails_notifies_and_pipelines() {
    let command = || {
        let mut command = Command::new("node");
        if let Some(packages) = std::env::var_os("POSTROOM_TEST_NODE") {
            command.env("NODE_PATH", packages);
        }
        command
    };
    let mut check = command();
    check.args(["-e", "require('msgpack-rpc-lite')"]);
    if !is_there("msgpack-rpc-lite of Node.js", check) {
        return;
    }
    let service = Binary::serve("");
    let address = service.address().to_string();
    let mut script = command();
    script.arg(source("messagepack-rpc/call.js")).arg(address.strip_prefix("unix:").unwrap());
    let expected =
        ["by name: 7", "in order: 8", "error: tea - there is no tea", "notified", "pipelined: 1000"].map(str::to_owned);
    assert_eq!(lines(&run(script)), expected);
    mirrored(&service, 1001);
}
