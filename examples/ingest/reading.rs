//! The reading loop: each line becomes a row or a dead letter.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use load_aware_batcher::Producer;

use super::dead_letters::DeadLetters;
use super::row::{Malformed, Row};

/// What many CSV files begin with.
const HEADING: &[u8] = b"id,value,text";

/// What the reading thread reports at its end.
#[derive(Default)]
pub struct Read {
    pub lines: u64,
    pub malformed: u64,
    /// Why it ended before the input did.
    pub problem: Option<io::Error>,
}

/// The file, or standard input.
pub fn open(path: Option<&Path>) -> Result<Box<dyn BufRead + Send>, String> {
    match path {
        None => Ok(Box::new(BufReader::new(io::stdin()))),
        Some(path) => match File::open(path) {
            Ok(file) => Ok(Box::new(BufReader::new(file))),
            Err(problem) => Err(format!("{}: {problem}", path.display())),
        },
    }
}

/// Adds a row for each line until the input ends or the batcher is closed.
pub fn read(
    mut input: Box<dyn BufRead + Send>,
    log: bool,
    producer: &Producer<Row>,
    dead_letters: &DeadLetters,
) -> Read {
    let mut read = Read::default();
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match input.read_until(b'\n', &mut bytes) {
            Ok(0) => return read,
            Ok(_) => read.lines += 1,
            Err(problem) => {
                read.problem = Some(problem);
                return read;
            }
        }
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || (read.lines == 1 && !log && line == HEADING) {
            continue;
        }
        let row = match std::str::from_utf8(line) {
            Ok(line) if log => Row::of_log(read.lines, line),
            Ok(line) => Row::parse(line),
            // One bad line, not the end.
            Err(_) => Err(Malformed::NotUtf8),
        };
        match row {
            // Waits while the queue is full. Refused only when the program is ending.
            Ok(row) => {
                if let Err(refused) = producer.add(row) {
                    let row = refused.into_inner();
                    dead_letters.write("unsent", &"the program ended first", &row);
                    return read;
                }
            }
            Err(problem) => {
                read.malformed += 1;
                let line = String::from_utf8_lossy(line);
                let reason = format!("line {}: {problem}", read.lines);
                dead_letters.write("malformed", &reason, &line);
            }
        }
    }
}
