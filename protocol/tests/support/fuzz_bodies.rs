//! The bodies of the fuzz targets, which the ordinary tests run over the corpus as well.
//!
//! They live here so that they cannot rot: `fuzz/fuzz_targets` and `fuzz_smoke.rs` include this file.

use std::collections::BTreeMap;

use postroom_protocol::rpc::{self, Message, Method};
use postroom_protocol::xdr::Fixed;
use postroom_protocol::{Error, codec, split_metadata, xdr};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

#[path = "model.rs"]
pub mod model;
#[path = "rpc_model.rs"]
pub mod rpc_model;

/// Splitting in portions gives what the model says. The first three bytes choose limit and portions.
pub fn splitter(data: &[u8]) {
    let Some((stream, limit, cuts)) = portions(data) else {
        return;
    };
    model::check(stream, limit, &cuts);
    model::check(stream, limit, &[]);
}

/// Scanning in portions gives what the model says, and what comes out can be taken apart or is refused.
/// The first three bytes choose limit and portions.
pub fn rpc(data: &[u8]) {
    let Some((stream, limit, cuts)) = portions(data) else {
        return;
    };
    rpc_model::check(stream, limit, &cuts);
    rpc_model::check(stream, limit, &[]);
    for seen in rpc_model::model(stream, limit) {
        if let rpc_model::Seen::Message(message) = seen {
            take_apart(&message);
        }
    }
    // What is no whole message must not be taken for more than it is either.
    take_apart(stream);
}

fn take_apart(message: &[u8]) {
    match Message::parse(message) {
        Ok(Message::Request { method, params, .. } | Message::Notification { method, params }) => {
            assert!(message.ends_with(params));
            match Method::parse(method) {
                Ok(parsed) => assert_eq!(parsed.to_string(), method),
                Err(error) => assert!(error.to_string().len() < 1024, "a long message: {error}"),
            }
            if let Ok(arguments) = rpc::arguments(params) {
                assert!(params.ends_with(arguments));
                codec(arguments);
            }
        }
        Ok(Message::Response { outcome: Ok(result), .. }) => assert!(message.ends_with(result)),
        Ok(Message::Response { outcome: Err(error), .. }) => attempt::<Error>(error),
        Err(error) => assert!(error.to_string().len() < 1024, "a long message: {error}"),
    }
}

/// A stream, a limit and where to cut, chosen by the first three bytes of `data`.
fn portions(data: &[u8]) -> Option<(&[u8], u32, Vec<usize>)> {
    let [limit, step, seed, stream @ ..] = data else {
        return None;
    };
    let mut state = u64::from(*seed) + 1;
    let mut cuts = Vec::new();
    let mut at = 0;
    while at < stream.len() {
        // A linear congruence is random enough to vary the portions.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        at += 1 + (state >> 33) as usize % (usize::from(*step) + 1);
        cuts.push(at);
    }
    Some((stream, 28 + 8 * u32::from(*limit), cuts))
}

/// Arbitrary bytes decode as any type or not at all, and what decodes survives being encoded again.
pub fn codec(data: &[u8]) {
    if let Ok(value) = codec::decode::<rmpv::Value>(data) {
        let mut first = Vec::new();
        codec::encode(&value, &mut first).expect("a value encodes");
        let again: rmpv::Value = codec::decode(&first).expect("what was encoded decodes");
        // Compared as bytes, since a float that is no number equals nothing.
        let mut second = Vec::new();
        codec::encode(&again, &mut second).expect("a value encodes");
        assert_eq!(first, second);
        assert!(codec::decode::<IgnoredAny>(data).is_ok());
    }
    attempt::<()>(data);
    attempt::<Arguments>(data);
    attempt::<Vec<Tree>>(data);
    attempt::<Vec<u8>>(data);
    attempt::<BTreeMap<String, Option<i32>>>(data);
    attempt::<(u128, f32, char, [i64; 2])>(data);
    attempt::<Error>(data);
    if let Ok((_, length)) = split_metadata(data) {
        assert!(length <= data.len().min(4096));
    }
}

fn attempt<T: DeserializeOwned>(data: &[u8]) {
    if let Err(error) = codec::decode::<T>(data) {
        let message = error.to_string();
        assert!(message.len() < 1024, "a long message: {message}");
        assert!(error.offset().is_none_or(|offset| offset <= data.len()));
    }
}

/// Arbitrary bytes decode as any type or not at all, and what decodes is encoded as it was.
pub fn xdr(data: &[u8]) {
    attempt_xdr::<()>(data);
    attempt_xdr::<XdrArguments>(data);
    attempt_xdr::<Vec<Tree>>(data);
    attempt_xdr::<Vec<u8>>(data);
    attempt_xdr::<Vec<Option<(i16, u64, f32, f64)>>>(data);
    attempt_xdr::<(Option<String>, u32)>(data);
    attempt_xdr::<(i32, i32, Option<String>, i32, Option<Fixed<16>>, Option<String>)>(data);
}

fn attempt_xdr<T: DeserializeOwned + Serialize>(data: &[u8]) {
    match xdr::decode::<T>(data) {
        Ok(value) => {
            let mut encoded = Vec::new();
            xdr::encode(&value, &mut encoded).expect("what decodes encodes");
            assert_eq!(encoded, data);
        }
        Err(error) => {
            assert!(error.to_string().len() < 1024, "a long message: {error}");
            assert!(error.offset().is_some_and(|offset| offset <= data.len()), "not within the payload: {error}");
        }
    }
}

/// Fields of every form that XDR has.
#[derive(Debug, Serialize, Deserialize)]
struct XdrArguments {
    name: String,
    uuid: Fixed<7>,
    data: serde_bytes::ByteBuf,
    small: (i8, u16, bool),
    tree: Tree,
    numbers: Vec<i64>,
}

/// Fields of every form.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only decoding is of interest")]
struct Arguments {
    id: u64,
    data: serde_bytes::ByteBuf,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    tree: Option<Tree>,
}

/// An enum that holds itself: only the depth limit ends its nesting.
#[derive(Debug, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Node(Box<Tree>),
    Pair(Box<Tree>, Box<Tree>),
    Named { inner: Box<Tree> },
}
