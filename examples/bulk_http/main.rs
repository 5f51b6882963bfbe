//! Documents for a bulk endpoint over HTTP, in the manner of Elasticsearch's `_bulk`, which answers
//! for each document.
//!
//! | answer | what is done |
//! | --- | --- |
//! | 200 for a document | it is stored |
//! | 400 for a document | `reject`: it fails, alone and at once |
//! | 429 for a document | `retry`: it goes with a later request; the other documents are done |
//! | 503 for the request, with `Retry-After` | `unavailable`: all of it again, not earlier than that |
//! | no answer | `in_doubt`: all of it again, since a document with an id may be stored twice |
//!
//! `cargo run --example bulk_http -- stored.txt 20000` sends 20 000 documents to an endpoint of
//! its own, which writes the id of each document that it stores to the file, a line each.

mod endpoint;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use load_aware_batcher::{Batch, BatchError, Batcher, LoadFeedback};

const GRACE: Duration = Duration::from_secs(60);

struct Document {
    id: u64,
    text: String,
}

/// What the endpoint answered.
struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    /// The status of each document, in their order.
    documents: Vec<u16>,
}

/// Sends the documents and reads the answer. A connection a request keeps this short; a client
/// library keeps one open.
fn send(mut connection: TcpStream, documents: &[Document]) -> io::Result<Answer> {
    let line = |document: &Document| {
        format!(
            "{{\"index\":{{\"_id\":\"{}\"}}}}\n{{\"text\":\"{}\"}}\n",
            document.id, document.text
        )
    };
    let body: String = documents.iter().map(line).collect();
    write!(
        connection,
        "POST /_bulk HTTP/1.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    parsed(&answer)
        .filter(|answer| answer.status != 200 || answer.documents.len() == documents.len())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is cut off"))
}

fn parsed(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let retry_after = head
        .lines()
        .find_map(|line| line.strip_prefix("Retry-After: "));
    let retry_after = retry_after
        .and_then(|seconds| seconds.parse().ok())
        .map(Duration::from_secs);
    // Enough for `{"index":{"status":200}}`; a program in earnest has a parser for JSON.
    let statuses = body
        .split("\"status\":")
        .skip(1)
        .map(|rest| rest.split('}').next()?.parse().ok());
    Some(Answer {
        status,
        retry_after,
        documents: statuses.collect::<Option<_>>()?,
    })
}

fn store(endpoint: SocketAddr, batch: &mut Batch<Document>) -> Result<LoadFeedback, BatchError> {
    // Nobody there: nothing was applied.
    let connection = TcpStream::connect(endpoint).map_err(BatchError::unavailable)?;
    // From here on no answer means that nobody knows.
    let answer = send(connection, batch).map_err(BatchError::in_doubt)?;
    match answer.status {
        200 => {}
        429 | 503 => {
            let refused = BatchError::unavailable(format!("HTTP {}", answer.status));
            return Err(answer
                .retry_after
                .map_or(refused.clone(), |wait| refused.retry_after(wait)));
        }
        status => return Err(BatchError::new(format!("HTTP {status}"))),
    }
    for (index, status) in answer.documents.iter().enumerate() {
        match status {
            200..300 => {}
            429 => batch.retry(index, BatchError::transient("429 Too Many Requests")),
            status => batch.reject(index, BatchError::permanent(format!("status {status}"))),
        }
    }
    Ok(LoadFeedback::new())
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "stored.txt".to_owned());
    let count: u64 = arguments.next().map_or(Ok(20_000), |count| count.parse())?;
    let endpoint = endpoint::serve(path)?;

    // A document with an id overwrites itself.
    let batcher = Batcher::builder()
        .idempotent(true)
        .spawn(move |batch: &mut Batch<Document>| store(endpoint, batch))?;
    batcher.add_many((1..=count).map(|id| Document {
        id,
        text: format!("document number {id}"),
    }))?;
    let again = batcher.flush(GRACE).err();
    let stats = batcher.stats();
    let report = batcher.close(GRACE);

    println!(
        "{} stored, {} refused, {} unsent",
        report.handled, report.failed_total, report.unsent_total
    );
    println!(
        "{} documents and {} requests were tried again",
        stats.retried_rows, stats.failed_calls.unavailable
    );
    if let Some(first) = report.failed.first() {
        println!(
            "document {}: {} ({})",
            first.item.id,
            first.error,
            again.map_or(String::new(), |e| e.to_string())
        );
    }
    Ok(if report.unsent_total == 0 && report.abandoned == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
