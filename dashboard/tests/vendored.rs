//! The charts are the published ones, byte for byte, and their licence is with them.

use sha2::{Digest, Sha256};

#[test]
fn the_vendored_charts_are_uplot_1_6_32() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/page/uplot");
    for (name, sum) in [
        (
            "uPlot.iife.min.js",
            "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
        ),
        (
            "uPlot.min.css",
            "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
        ),
        (
            "LICENSE",
            "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
        ),
    ] {
        let bytes = std::fs::read(format!("{folder}/{name}")).unwrap();
        let found: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(found, sum, "{name}");
    }
}
