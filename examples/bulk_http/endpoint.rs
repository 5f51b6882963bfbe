//! The other side: an endpoint on loopback that stores documents in a file and is not always
//! willing.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Every one of so many documents is malformed: 400, whenever it comes.
const BAD_EVERY: u64 = 1_000;
/// Every one of so many is refused when it comes first: 429.
const BUSY_EVERY: u64 = 20;
/// From this request on, those whose number is a power of two are refused as a whole: 503. Each
/// costs a second.
const AWAY_FROM: u64 = 4;

struct Endpoint {
    stored: BufWriter<File>,
    refused_once: HashSet<u64>,
    requests: u64,
}

/// Serves on a thread until the process ends.
pub fn serve(path: String) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut endpoint = Endpoint {
        stored: BufWriter::new(File::create(path)?),
        refused_once: HashSet::new(),
        requests: 0,
    };
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if let Err(error) = endpoint.answer(&client) {
                eprintln!("a client went away: {error}");
            }
        }
    });
    Ok(address)
}

impl Endpoint {
    fn answer(&mut self, mut client: &TcpStream) -> io::Result<()> {
        let body = body(client)?;
        self.requests += 1;
        if self.requests >= AWAY_FROM && self.requests.is_power_of_two() {
            let refusal =
                "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
            return client.write_all(refusal.as_bytes());
        }
        let ids: Vec<u64> = body.lines().step_by(2).filter_map(id).collect();
        let mut items = Vec::new();
        for id in ids {
            let status = self.status(id);
            if status == 200 {
                writeln!(self.stored, "{id}")?;
            }
            items.push(format!(
                "{{\"index\":{{\"_id\":\"{id}\",\"status\":{status}}}}}"
            ));
        }
        // Stored means stored: before the answer.
        self.stored.flush()?;
        let body = format!("{{\"items\":[{}]}}", items.join(","));
        write!(
            client,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn status(&mut self, id: u64) -> u16 {
        match () {
            () if id % BAD_EVERY == 0 => 400,
            () if id % BUSY_EVERY == 1 && self.refused_once.insert(id) => 429,
            () => 200,
        }
    }
}

/// The body of a request that says its length.
fn body(client: &TcpStream) -> io::Result<String> {
    let mut request = BufReader::new(client);
    let mut length = 0;
    let mut line = String::new();
    while request.read_line(&mut line)? > 2 {
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        line.clear();
    }
    let mut body = String::new();
    request.take(length).read_to_string(&mut body)?;
    Ok(body)
}

/// The id in `{"index":{"_id":"17"}}`.
fn id(line: &str) -> Option<u64> {
    line.split("\"_id\":\"")
        .nth(1)?
        .split('"')
        .next()?
        .parse()
        .ok()
}
