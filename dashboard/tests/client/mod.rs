//! A small HTTP client over a plain `TcpStream`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use load_aware_batcher_dashboard::Dashboard;

/// No promise: so that a broken server fails a test instead of hanging it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The whole answer to the bytes of a request.
pub fn send(dashboard: &Dashboard, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(dashboard.address())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

pub fn get(dashboard: &Dashboard, path: &str) -> io::Result<String> {
    let host = dashboard.address();
    send(
        dashboard,
        &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    )
}

/// A reader of `/events`.
pub struct Events {
    stream: BufReader<TcpStream>,
    /// The last that was sent.
    pub id: String,
}

impl Events {
    /// `last` is the id of the last event seen, or empty.
    pub fn open(dashboard: &Dashboard, last: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(dashboard.address())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let host = dashboard.address();
        write!(
            &stream,
            "GET /events HTTP/1.1\r\nHost: {host}\r\nLast-Event-ID: {last}\r\n\r\n"
        )?;
        Ok(Self {
            stream: BufReader::new(stream),
            id: String::new(),
        })
    }

    /// The data of the next event of that type.
    pub fn next(&mut self, kind: &str) -> io::Result<String> {
        let (mut of, mut data) = ("message".to_owned(), String::new());
        let mut signs_of_life = 0;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end().split_once(": ") {
                Some(("event", event)) => event.clone_into(&mut of),
                Some(("id", id)) => id.clone_into(&mut self.id),
                Some(("data", text)) => data.push_str(text),
                None if line.trim_end().is_empty() => {
                    if of == kind && !data.is_empty() {
                        return Ok(data);
                    }
                    "message".clone_into(&mut of);
                    data.clear();
                }
                _ if line.starts_with(':') => {
                    signs_of_life += 1;
                    if signs_of_life == 3 {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                _ => {}
            }
        }
    }
}
