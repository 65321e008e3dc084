//! Runs the bodies of the fuzz targets over their corpus and some thousand mutations of it.
//!
//! The mutations are the same in every run, so that a failure can be repeated. For a longer run there are
//! `POSTROOM_FUZZ_SECONDS`, for each target, and `POSTROOM_SEED`, without which such a run is like no other; it is printed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[path = "support/fuzz_bodies.rs"]
mod fuzz_bodies;

const N_MUTATIONS: usize = 4000;

#[test]
fn fuzz_splitter_survives_its_corpus_and_mutations() {
    run("splitter", fuzz_bodies::splitter);
}

#[test]
fn fuzz_codec_survives_its_corpus_and_mutations() {
    run("codec", fuzz_bodies::codec);
}

#[test]
fn fuzz_rpc_survives_its_corpus_and_mutations() {
    run("rpc", fuzz_bodies::rpc);
}

#[test]
fn fuzz_xdr_survives_its_corpus_and_mutations() {
    run("xdr", fuzz_bodies::xdr);
}

fn run(target: &str, body: fn(&[u8])) {
    let seeds = corpus(target);
    assert!(seeds.len() > 20, "the corpus of {target} is missing");
    for seed in &seeds {
        body(seed);
    }
    let time = number("POSTROOM_FUZZ_SECONDS").map(Duration::from_secs);
    let seed = number("POSTROOM_SEED").unwrap_or_else(|| if time.is_some() { new_seed() } else { 7 });
    // No seed is zero, which this generator would not get away from.
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (start, mut n_mutations) = (Instant::now(), 0);
    let is_over = |n: usize| time.map_or(n >= N_MUTATIONS, |time| n.is_multiple_of(1000) && start.elapsed() >= time);
    if time.is_some() {
        println!("{target}: POSTROOM_SEED={seed}");
    }
    while !is_over(n_mutations) {
        n_mutations += 1;
        let mut data = seeds[random.below(seeds.len())].clone();
        for _ in 0..1 + random.below(4) {
            mutate(&mut data, &seeds, &mut random);
        }
        body(&data);
    }
    println!("{target}: {n_mutations} mutations");
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} = {text}: expected a number")))
}

fn new_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64 % 1_000_000_000
}

/// The files of the corpus in the order of their names, which does not depend on the file system.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn mutate(data: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(data.len() + 1);
    match random.below(5) {
        0 => data.truncate(at),
        1 => data.insert(at, random.next() as u8),
        2 => data.extend_from_slice(&seeds[random.below(seeds.len())]),
        3 if at < data.len() => data[at] = random.next() as u8,
        4 if at < data.len() => data[at] ^= 1 << random.below(8),
        _ => {}
    }
}

/// Xorshift: small, fast, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n
    }
}
