//! The example client in Python, run as a user would run it. `./test` installs the one package that it needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::examples::{example, source};
use crate::support::*;

/// A Python that has msgpack, if there is one.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("POSTROOM_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let found = Command::new(&python).args(["-c", "import msgpack"]).output().is_ok_and(|done| done.status.success());
    if !found {
        println!("skipped: {} has no msgpack; set POSTROOM_TEST_PYTHON to one that has it", python.display());
    }
    found.then(|| python.into())
}

/// Runs the client; its exit status, output and errors.
fn client_py(python: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(python);
    command.env_remove("POSTROOM_ADDRESS").env_remove("XDG_RUNTIME_DIR").env("PYTHONDONTWRITEBYTECODE", "1");
    command.envs(environment.iter().copied()).arg(source("client.py")).args(arguments);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_client_in_python_has_less_than_100_lines_and_needs_nothing_but_msgpack() {
    let text = std::fs::read_to_string(source("client.py")).unwrap();
    assert!(text.lines().count() < 100, "{} lines", text.lines().count());
    let imports: Vec<&str> =
        text.lines().filter(|line| line.starts_with("import ") || line.starts_with("from ")).collect();
    let known =
        ["argparse", "base64", "json", "msgpack", "os", "socket", "struct", "sys"].map(|name| format!("import {name}"));
    assert!(imports.iter().all(|import| known.iter().any(|known| known == import)), "{imports:?}");
}

#[test]
fn the_client_in_python_calls_by_name_and_prints_json() {
    let Some(python) = python() else { return };
    let service = Binary::serve_with("", &["--listen", "tcp:127.0.0.1:0"]);
    let to = service.address().to_string();
    let call = |arguments: &[&str]| client_py(&python, &[], &[&["--to", &to], arguments].concat());
    let done = |text: &str| (Some(0), text.to_owned(), String::new());
    let json = r#"{"hello": [1, 2.5, null, true, "ü"]}"#;
    assert_eq!(call(&["echo.mirror", json]), done(json));
    assert_eq!(call(&["echo.mirror"]), done("null"));
    assert_eq!(call(&["echo/1.mirror", "7"]), done("7"));
    assert_eq!(
        call(&["echo.echo", r#"{"id": 1, "data": {"$bin": "AAH/"}}"#]),
        done(r#"{"id": 1, "data": {"$bin": "AAH/"}}"#)
    );
    let (status, output, errors) = call(&["directory.describe"]);
    assert_eq!((status, errors.as_str()), (Some(0), ""));
    assert!(output.contains("whoami"), "{output}");
    assert_eq!(call(&["echo.sleep", r#"{"ms": 1}"#]), done("{}"));
}

#[test]
fn the_client_in_python_tells_errors_with_their_code_and_status() {
    let Some(python) = python() else { return };
    let service = Binary::serve("");
    let to = service.address().to_string();
    let call = |arguments: &[&str]| client_py(&python, &[], &[&["--to", &to], arguments].concat());
    let cases = [
        (&["echo.fail", r#"{"code": "tea", "message": "no tea"}"#][..], 1, "tea: no tea"),
        (&["echo.echo", "{}"], 1, "invalid_arguments"),
        (&["nobody.home"], 1, "unknown_program"),
        (&["echo/9.echo"], 1, "unknown_version"),
        (&["echo.nothing"], 1, "unknown_procedure"),
        (&["echo.mirror", "{no json"], 2, "error"),
        (&[], 2, "usage"),
    ];
    for (arguments, status, says) in cases {
        let (code, output, errors) = call(arguments);
        assert_eq!((code, output.as_str()), (Some(status), ""), "{arguments:?}: {errors}");
        assert!(errors.contains(says), "{arguments:?}: {errors}");
        assert!(!errors.contains("Traceback"), "{errors}");
    }
    drop(service);
    let (code, _, errors) = call(&["echo.mirror"]);
    assert_eq!(code, Some(2));
    assert!(errors.starts_with("error: "), "{errors}");
    let (code, _, _) = client_py(&python, &[], &["--to", "nonsense", "echo.mirror"]);
    assert_eq!(code, Some(2));
}

#[test]
fn the_client_in_python_finds_the_service_where_the_binary_listens_by_default() {
    let Some(python) = python() else { return };
    let folder: TempDir = tempfile::tempdir().unwrap();
    let runtime = folder.path().to_str().unwrap().to_owned();
    let mut command = Binary::command();
    command.env("XDG_RUNTIME_DIR", &runtime);
    let service = Binary::spawn(command, folder);
    let by_runtime = client_py(&python, &[("XDG_RUNTIME_DIR", &runtime)], &["echo.mirror", "1"]);
    assert_eq!(by_runtime, (Some(0), "1".to_owned(), String::new()));
    let address = service.address().to_string();
    let environment = [("XDG_RUNTIME_DIR", "/nowhere"), ("POSTROOM_ADDRESS", &*address)];
    assert_eq!(client_py(&python, &environment, &["echo.mirror", "2"]).1, "2");
}

#[test]
fn the_client_in_python_speaks_to_the_stateful_example_as_its_text_says() {
    let Some(python) = python() else { return };
    let service = example("stateful");
    let to = service.address().to_string();
    let call = |arguments: &[&str]| client_py(&python, &[], &[&["--to", &to], arguments].concat());
    assert_eq!(call(&["stock.put", r#"{"item": "bolt", "count": 3}"#]).1, r#"{"count": 3, "number": 1}"#);
    let (code, _, errors) = call(&["stock.take", r#"{"item": "bolt", "count": 5}"#]);
    assert_eq!((code, errors.as_str()), (Some(1), r#"error: too_few: there are only 3 of "bolt""#));
    assert_eq!(call(&["stock/1.take", r#"{"item": "bolt"}"#]).1, r#"{"count": 2}"#);
}
