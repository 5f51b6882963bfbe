//! A web server that answers 200 when the row is stored, not when it is queued.
//!
//! Each request submits its row and waits for its ticket. A waited-for row is handed over as soon
//! as the handler is free, so the requests that come during one transaction go together into the
//! next.
//!
//! `cargo run --example web_tickets -- notes.db 127.0.0.1:8080`, then `curl -d 'a note'
//! http://127.0.0.1:8080/`. `/metrics` has the numbers for Prometheus. Ctrl-C or SIGTERM ends it: what was accepted is stored and answered,
//! later requests get 503.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use load_aware_batcher::{Batch, Batcher, BuildError, LoadFeedback, Outcome};
use rusqlite::Connection;

/// Shorter than the grace that a supervisor gives before it kills.
const GRACE: Duration = Duration::from_secs(8);
/// How long a client may take for its request and for its answer.
const CLIENT: Duration = Duration::from_secs(5);
const BODY_MAX: u64 = 64 * 1024;

/// Requests that are not answered yet.
static OPEN: AtomicUsize = AtomicUsize::new(0);

fn start(path: String) -> Result<Batcher<String>, BuildError> {
    Batcher::builder()
        .name("notes")
        .spawn_workers(move |_worker| {
            let mut connection = Connection::open(&path)?;
            connection.execute_batch(
                "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)",
            )?;
            Ok::<_, rusqlite::Error>(move |batch: &mut Batch<String>| {
                let transaction = connection.transaction()?;
                let mut insert =
                    transaction.prepare_cached("INSERT INTO notes (text) VALUES (?)")?;
                for note in batch.iter() {
                    insert.execute([note])?;
                }
                drop(insert);
                transaction.commit()?;
                Ok(LoadFeedback::new())
            })
        })
}

/// What a client asks for.
enum Request {
    Store(String),
    Metrics,
    Other,
}

fn read(client: &TcpStream) -> io::Result<Request> {
    let mut request = BufReader::new(client.take(2 * BODY_MAX));
    let mut line = String::new();
    request.read_line(&mut line)?;
    let is_post = line.starts_with("POST ");
    let is_scrape = line.starts_with("GET /metrics ");
    let mut length = 0;
    loop {
        line.clear();
        request.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            Some(_) => {}
            None => break,
        }
    }
    if is_scrape {
        return Ok(Request::Metrics);
    }
    if !is_post || length > BODY_MAX {
        return Ok(Request::Other);
    }
    let mut body = vec![0; length as usize];
    request.read_exact(&mut body)?;
    Ok(String::from_utf8(body).map_or(Request::Other, Request::Store))
}

fn answer(mut client: TcpStream, notes: &Batcher<String>) -> io::Result<()> {
    client.set_read_timeout(Some(CLIENT))?;
    client.set_write_timeout(Some(CLIENT))?;
    let (status, body) = match read(&client)? {
        Request::Other => ("400 Bad Request", "POST a note".to_owned()),
        Request::Metrics => {
            let mut text = String::new();
            notes
                .stats()
                .write_prometheus(&mut text)
                .map_err(io::Error::other)?;
            ("200 OK", text)
        }
        Request::Store(note) => match notes.submit(note) {
            Err(refused) => ("503 Service Unavailable", refused.to_string()),
            Ok(ticket) => match ticket.wait() {
                Outcome::Handled => ("200 OK", "stored".to_owned()),
                Outcome::Failed(error) => ("503 Service Unavailable", error.to_string()),
                outcome => ("503 Service Unavailable", format!("{outcome:?}")),
            },
        },
    };
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "notes.db".to_owned());
    let address = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let notes = Arc::new(start(path)?);
    let (signal, signalled) = mpsc::channel();
    ctrlc::set_handler(move || {
        let _ = signal.send(());
    })?;
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);

    let serving = Arc::clone(&notes);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let notes = Arc::clone(&serving);
            OPEN.fetch_add(1, Ordering::SeqCst);
            // A thread a request, without a bound: a server for the public needs one.
            std::thread::spawn(move || {
                if let Err(error) = answer(client, &notes) {
                    eprintln!("a client went away: {error}");
                }
                OPEN.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });

    signalled.recv()?;
    // Every ticket has its outcome when this returns; the threads still have to write their
    // answers.
    let report = notes.shutdown(GRACE);
    let closed = Instant::now();
    while OPEN.load(Ordering::SeqCst) > 0 && closed.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    println!(
        "{} notes stored, {} failed, {} unsent",
        report.handled, report.failed_total, report.unsent_total
    );
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
