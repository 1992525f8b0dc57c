//! Randomness that can be repeated: a test says with which seeds it ran, and one environment variable runs one of
//! them again.

use std::ops::Range;

/// The environment variable that holds the one seed to run.
pub const VARIABLE: &str = "HUTONG_SEED";

/// Calls `run` with `count` seeds that no run before had, or with the one that [`VARIABLE`] names.
///
/// Panics at the first seed that fails, and says how to repeat it.
pub fn sweep(test: &str, count: u64, run: impl FnMut(u64) -> Result<(), String>) {
    let seeds = match std::env::var(VARIABLE) {
        Ok(text) => {
            let seed = text.parse().expect("the seed is a whole number");
            seed..seed + 1
        }
        Err(_) => {
            let first = u64::from(rand::random::<u32>()) << 20;
            first..first + count
        }
    };
    println!("{test}: seeds {} to {}", seeds.start, seeds.end - 1);
    through(test, seeds, run);
}

/// Calls `run` with each of the seeds; panics at the first that fails, and says how to repeat it.
fn through(test: &str, seeds: Range<u64>, mut run: impl FnMut(u64) -> Result<(), String>) {
    for seed in seeds {
        let told = Told { test, seed };
        let done = run(seed);
        drop(told);
        if let Err(why) = done {
            panic!("{why}\nrepeat it: {}", command(test, seed));
        }
    }
}

/// Returns how many of the first `count` seeds it takes until `finds` says yes; `None` when it never does.
pub fn first(count: u64, mut finds: impl FnMut(u64) -> bool) -> Option<u64> {
    (0..count).find(|seed| finds(*seed))
}

fn command(test: &str, seed: u64) -> String {
    format!("{VARIABLE}={seed} cargo test {test}")
}

/// Names the seed also when the run panics.
struct Told<'a> {
    test: &'a str,
    seed: u64,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat it: {}", command(self.test, self.seed));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn what_fails_names_its_seed() {
        let failed = catch_unwind(|| {
            through("of_the_test", 5..9, |seed| if seed == 7 { Err("wrong".into()) } else { Ok(()) });
        });
        let text = *failed.unwrap_err().downcast::<String>().unwrap();
        assert_eq!(text, "wrong\nrepeat it: HUTONG_SEED=7 cargo test of_the_test");
    }
}
