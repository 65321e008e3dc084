//! The bodies of the fuzz targets, which the ordinary tests run over the corpus as well.
//!
//! They live here so that they cannot rot: `fuzz/fuzz_targets` and `fuzz_smoke.rs` include this file.

use std::collections::BTreeMap;

use postroom_protocol::{Error, codec, split_metadata};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

#[path = "model.rs"]
pub mod model;

/// Splitting in portions gives what the model says. The first three bytes choose limit and portions.
pub fn splitter(data: &[u8]) {
    let [limit, step, seed, stream @ ..] = data else {
        return;
    };
    let limit = 28 + 8 * u32::from(*limit);
    let mut state = u64::from(*seed) + 1;
    let mut cuts = Vec::new();
    let mut at = 0;
    while at < stream.len() {
        // A linear congruence is random enough to vary the portions.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        at += 1 + (state >> 33) as usize % (usize::from(*step) + 1);
        cuts.push(at);
    }
    model::check(stream, limit, &cuts);
    model::check(stream, limit, &[]);
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
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only decoding is of interest")]
enum Tree {
    Leaf,
    Node(Box<Tree>),
    Pair(Box<Tree>, Box<Tree>),
    Named { inner: Box<Tree> },
}
