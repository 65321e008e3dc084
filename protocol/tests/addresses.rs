//! Addresses as people write them.

use postroom_protocol::Address;

#[test]
fn addresses_read_and_write_the_same() {
    let tcp = |host: &str, port| Address::Tcp { host: host.to_owned(), port };
    for (text, address) in [
        ("unix:/run/x.sock", Address::Unix("/run/x.sock".into())),
        ("unix:x:y", Address::Unix("x:y".into())),
        ("unix:@name", Address::UnixAbstract("name".to_owned())),
        ("tcp:localhost:0", tcp("localhost", 0)),
        ("tcp:0.0.0.0:65535", tcp("0.0.0.0", 65535)),
        ("tcp:[::1]:80", tcp("::1", 80)),
    ] {
        assert_eq!(text.parse(), Ok(address.clone()));
        assert_eq!(address.to_string(), text);
    }
}

#[test]
fn a_path_never_reads_as_an_abstract_name() {
    let address = Address::Unix("@x".into());
    assert_eq!(address.to_string(), "unix:./@x");
}

#[test]
fn errors_name_the_address_and_the_forms() {
    assert_eq!(
        "tls:host:1".parse::<Address>().unwrap_err().to_string(),
        "address \"tls:host:1\": TLS is not known here; the forms that this version knows are \
         unix:PATH, unix:@NAME and tcp:HOST:PORT"
    );
    for (text, problem) in [
        ("", "it does not start with a form and a colon"),
        ("/run/x.sock", "it does not start with a form and a colon"),
        ("http:x", "its form is unknown"),
        ("local:x", "local addresses are not known here"),
        ("vsock:1:2", "vsock is not known here"),
        ("unix:", "the path is empty"),
        ("unix:@", "the abstract name is empty"),
        ("unix:a\0b", "the path has a zero byte"),
        ("tcp:host", "the port is missing"),
        ("tcp::80", "the host is empty"),
        ("tcp:::1:80", "an IPv6 address stands in brackets"),
        ("tcp:[::1:80", "the closing bracket is missing"),
        ("tcp:[host]:80", "brackets are for IPv6 addresses"),
        ("tcp:host:", "the port is not a number from 0 to 65535"),
        ("tcp:host:+1", "the port is not a number from 0 to 65535"),
        ("tcp:host:65536", "the port is not a number from 0 to 65535"),
    ] {
        let error = text.parse::<Address>().unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}
