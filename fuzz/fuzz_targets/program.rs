//! Random programs for a batcher, drawn from the fuzzer's bytes: every item must end exactly once.
//!
//! The programs and the account are those of `tests/conservation.rs` (`testkit/src/program.rs`);
//! here coverage leads to them.
//!
//! ```text
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run program -- -detect_leaks=0 -len_control=0 -max_len=300 -max_total_time=300
//! cargo +nightly fuzz run program fuzz/artifacts/program/crash-…      # once more; prints the program and its account
//! ```
//!
//! Without the search for leaks, because it counts the thread-local destructors of a thread that is
//! just ending, such as the flusher's after a close that ran out of time.
//!
//! What fails is a race more often than not: run an artifact some hundred times (`-- -runs=1000`)
//! before it is called fixed. Panics of the scripted handler are caught by the batcher and abort
//! nothing, because they unwind without the hook that the fuzzer aborts in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use testkit::program::{Account, Program};

fuzz_target!(|bytes: &[u8]| {
    let program = Program::from_bytes(bytes);
    let account: Account = program.run();
    assert!(account.violations.is_empty(), "{program:#?}\n{account:#?}");
});
