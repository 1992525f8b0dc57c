//! Hostile input: valid bytes that somebody has damaged, thousands of times, each handed to a check.
//!
//! The same check runs in `cargo test` for some thousand inputs and under `make fuzz` for as long as one likes
//! ([`VARIABLE`]), so that neither can rot. Each input is made by a seed: a failure names it, and
//! `HUTONG_SEED=… cargo test …` makes that input again.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::seed;

/// The environment variable that says for how many seconds each check is fed, instead of a number of inputs.
pub const VARIABLE: &str = "HUTONG_FUZZ_SECONDS";

/// The longest input that is made of shorter ones.
const LENGTH_LIMIT: usize = 64 << 10;

/// Numbers at which somebody may have miscounted.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0xffff,
    i32::MAX as u64,
    u32::MAX as u64,
    1 << 40,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX,
];

/// Hands `check` inputs that are made of the valid ones, and the valid ones themselves first.
///
/// `check` panics when something is wrong with what an input does. `count`: how many inputs `cargo test` makes.
pub fn feed(test: &str, count: u64, valid: &[Vec<u8>], mut check: impl FnMut(&[u8])) {
    assert!(!valid.is_empty(), "there is nothing to damage");
    valid.iter().for_each(|whole| check(whole));
    let mut run = |seed| {
        check(&damaged(&mut StdRng::seed_from_u64(seed), valid));
        Ok(())
    };
    let Ok(seconds) = std::env::var(VARIABLE) else { return seed::sweep(test, count, run) };
    let end = Instant::now() + Duration::from_secs(seconds.parse().expect("a whole number of seconds"));
    let mut fed = 0;
    while Instant::now() < end {
        // Said before it runs: what ends the whole program, as an exhausted stack does, is found between two lines.
        seed::sweep(test, count, &mut run);
        fed += count;
    }
    println!("{test}: {fed} inputs");
}

/// Does the same with texts; what is no UTF-8 is replaced.
pub fn feed_texts(test: &str, count: u64, valid: &[&str], mut check: impl FnMut(&str)) {
    let valid: Vec<Vec<u8>> = valid.iter().map(|text| text.as_bytes().to_vec()).collect();
    feed(test, count, &valid, |bytes| check(&String::from_utf8_lossy(bytes)));
}

/// Runs something that may hold no more than `most` bytes at once, and says how many it held when it did.
///
/// Counts what this thread allocates; a length that is believed before its bytes are there is found so.
#[cfg(feature = "counting")]
pub fn within(most: usize, run: impl FnOnce()) {
    let held = allocation_counter::measure(run).bytes_max;
    assert!(held <= most as u64, "it held {held} bytes, and may hold {most}");
}

/// Returns one of the valid inputs after some damage; now and then bytes that were never valid.
fn damaged(rng: &mut StdRng, valid: &[Vec<u8>]) -> Vec<u8> {
    if rng.random_ratio(1, 50) {
        let length = rng.random_range(0..300);
        return (0..length).map(|_| rng.random()).collect();
    }
    let mut bytes = valid.choose(rng).cloned().unwrap_or_default();
    let mut again = true;
    while again {
        damage(rng, &mut bytes, valid);
        bytes.truncate(LENGTH_LIMIT);
        again = rng.random_ratio(1, 2);
    }
    bytes
}

fn damage(rng: &mut StdRng, bytes: &mut Vec<u8>, valid: &[Vec<u8>]) {
    if bytes.is_empty() {
        bytes.push(rng.random());
        return;
    }
    let at = rng.random_range(0..bytes.len());
    let end = (at + rng.random_range(1..=40)).min(bytes.len());
    match rng.random_range(0..10) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = rng.random(),
        // A length or a count, as a database writes it.
        2 => {
            let edge = EDGES[rng.random_range(0..EDGES.len())].to_be_bytes();
            let width = [1, 2, 4, 8][rng.random_range(0..4)];
            bytes.iter_mut().skip(at).zip(&edge[8 - width..]).for_each(|(byte, edge)| *byte = *edge);
        }
        // A length or a count, as Avro writes it.
        3 => drop(bytes.splice(at..at + 1, variable(EDGES[rng.random_range(0..EDGES.len())]))),
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(at..end)),
        6 => {
            let twice = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, twice));
        }
        // A short piece over and over: brackets nest, names grow.
        7 => {
            let piece = bytes[at..(at + rng.random_range(1..=8)).min(bytes.len())].to_vec();
            let times = [3, 30, 300, 5_000][rng.random_range(0..4)];
            drop(bytes.splice(at..at, piece.repeat(times)));
        }
        8 => {
            let other = valid.choose(rng).cloned().unwrap_or_default();
            let from = rng.random_range(0..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => {
            let some: Vec<u8> = (0..rng.random_range(1..10)).map(|_| rng.random()).collect();
            drop(bytes.splice(at..at, some));
        }
    }
}

/// Returns a number in base 128, least significant first (Avro 1.12, "Binary encoding").
fn variable(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn a_length_that_is_believed_is_found_and_its_seed_named() {
        let whole = [vec![0, 3, b'a', b'b', b'c']];
        // Takes what the two bytes say, whether it is there or not.
        let believes = |bytes: &[u8]| {
            if let [high, low, rest @ ..] = bytes {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let _ = &rest[..length];
            }
        };
        let failed = catch_unwind(|| feed("of_the_test", 1_000, &whole, believes));
        assert!(failed.is_err(), "some thousand inputs find it");
    }

    #[cfg(feature = "counting")]
    #[test]
    fn what_is_held_is_counted() {
        within(2_000, || drop(Vec::<u8>::with_capacity(1_000)));
        let failed = catch_unwind(|| within(2_000, || drop(Vec::<u8>::with_capacity(3_000))));
        assert!(failed.unwrap_err().downcast::<String>().unwrap().contains("may hold 2000"));
    }

    #[test]
    fn a_seed_makes_one_input() {
        let valid = [b"abc".to_vec(), b"{\"a\":[1]}".to_vec()];
        let made = |seed| damaged(&mut StdRng::seed_from_u64(seed), &valid);
        assert!((0..100).all(|seed| made(seed) == made(seed)));
        assert!((0..100).any(|seed| made(seed) != made(seed + 1)));
    }
}
