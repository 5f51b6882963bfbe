//! `/metrics` for Prometheus, on a plain `TcpListener`: two batchers, one exposition, no framework.
//!
//! `cargo run --example metrics -- 127.0.0.1:9100`, then `curl http://127.0.0.1:9100/metrics`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use load_aware_batcher::{Batch, Batcher, BuildError, LoadFeedback, Observer, metrics};

/// How long a client may take for its request and for its answer.
const CLIENT: Duration = Duration::from_secs(5);
const REQUEST_MAX: u64 = 8 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let batchers = [batcher("orders")?, batcher("readings")?];
    let observers: Vec<Observer> = batchers.iter().map(Batcher::observer).collect();
    // Something to see.
    for batcher in &batchers {
        let producer = batcher.producer();
        std::thread::spawn(move || {
            while producer.add(1).is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    }
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:9100"))?;
    println!("listening on {}", listener.local_addr()?);
    // One client at a time is enough for scrapes; the time-outs bound each.
    for client in listener.incoming().flatten() {
        if let Err(error) = answer(client, &observers) {
            eprintln!("a client went away: {error}");
        }
    }
    Ok(())
}

fn batcher(name: &str) -> Result<Batcher<u64>, BuildError> {
    Batcher::builder()
        .name(name)
        .spawn(|batch: &mut Batch<u64>| {
            // INSERT the rows here.
            std::thread::sleep(Duration::from_micros(500 + 10 * batch.len() as u64));
            Ok(LoadFeedback::new())
        })
}

fn answer(mut client: TcpStream, observers: &[Observer]) -> io::Result<()> {
    client.set_read_timeout(Some(CLIENT))?;
    client.set_write_timeout(Some(CLIENT))?;
    let mut request = BufReader::new((&client).take(REQUEST_MAX));
    let mut first = String::new();
    request.read_line(&mut first)?;
    // The head is read to its end: closing on unread bytes would reset the connection.
    let mut line = String::new();
    while request.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut body = String::new();
    let status = if first.starts_with("GET /metrics ") {
        let snapshots: Vec<_> = observers
            .iter()
            .map(|observer| (observer.name(), observer.stats()))
            .collect();
        metrics::write_prometheus(&mut body, &snapshots).map_err(io::Error::other)?;
        "200 OK"
    } else {
        "404 Not Found"
    };
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
