//! Runs the bodies of the fuzz targets over their corpus and some thousand mutations of it.
//!
//! The mutations are the same in every run, so that a failure can be repeated.

use std::fs;
use std::path::Path;

#[path = "support/fuzz_bodies.rs"]
mod fuzz_bodies;

const N_MUTATIONS: usize = 4000;

#[test]
fn splitter_survives_its_corpus_and_mutations() {
    run("splitter", fuzz_bodies::splitter);
}

#[test]
fn codec_survives_its_corpus_and_mutations() {
    run("codec", fuzz_bodies::codec);
}

#[test]
fn rpc_survives_its_corpus_and_mutations() {
    run("rpc", fuzz_bodies::rpc);
}

#[test]
fn xdr_survives_its_corpus_and_mutations() {
    run("xdr", fuzz_bodies::xdr);
}

fn run(target: &str, body: fn(&[u8])) {
    let seeds = corpus(target);
    assert!(seeds.len() > 20, "the corpus of {target} is missing");
    for seed in &seeds {
        body(seed);
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..N_MUTATIONS {
        let mut data = seeds[random.below(seeds.len())].clone();
        for _ in 0..1 + random.below(4) {
            mutate(&mut data, &seeds, &mut random);
        }
        body(&data);
    }
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
