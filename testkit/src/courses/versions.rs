//! Upserts of the same keys through several connections.

use load_aware_batcher::Batcher;

/// Keys, and how often each is written.
pub const KEYS: i64 = 300;
pub const VERSIONS: i64 = 200;

/// Adds every version of every key, version by version, the keys by turns up and down. `row` makes
/// one of a key and a version.
pub fn add_versions<R: Send + 'static>(batcher: &Batcher<R>, row: impl Fn(i64, i64) -> R) {
    for version in 0..VERSIONS {
        let key = |place| {
            if version % 2 == 0 {
                place
            } else {
                KEYS - 1 - place
            }
        };
        let rows = (0..KEYS).map(|place| row(key(place), version));
        batcher.add_many(rows).unwrap();
    }
}
