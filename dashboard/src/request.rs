//! The head of a request: read within limits, parsed as far as the server needs it.

use std::io::{self, Read};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

const HEAD_MAX: usize = 8 * 1024;
const BODY_MAX: usize = 1024;
/// For the whole request, so that a client that sends a byte at a time holds no connection.
const TIME_MAX: Duration = Duration::from_secs(2);

/// A request.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// An `InvalidData` if it is too large or not HTTP, otherwise what reading said.
    pub(crate) fn read(stream: &TcpStream) -> io::Result<Self> {
        let deadline = Instant::now() + TIME_MAX;
        let mut bytes = Vec::new();
        let end = loop {
            let end = find(&bytes, b"\r\n\r\n");
            if end.unwrap_or(bytes.len()) > HEAD_MAX {
                return Err(invalid("the head is too large"));
            }
            if let Some(end) = end {
                break end;
            }
            read_some(stream, &mut bytes, deadline)?;
        };
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| invalid("not UTF-8"))?;
        let mut request = Self::parse(head).ok_or_else(|| invalid("not HTTP"))?;
        let length = match request.header("content-length") {
            Some(text) => text.parse().map_err(|_| invalid("no length"))?,
            None => 0,
        };
        if length > BODY_MAX {
            return Err(invalid("the body is too large"));
        }
        let body = end + 4;
        while bytes.len() < body + length {
            read_some(stream, &mut bytes, deadline)?;
        }
        request.body = String::from_utf8_lossy(&bytes[body..body + length]).into_owned();
        Ok(request)
    }

    fn parse(head: &str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target, version) = (first.next()?, first.next()?, first.next()?);
        if first.next().is_some() || !version.starts_with("HTTP/1.") {
            return None;
        }
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_ascii_lowercase(), value.trim().to_owned()))
            })
            .collect::<Option<_>>()?;
        Some(Self {
            method: method.to_owned(),
            path: target.split('?').next()?.to_owned(),
            headers,
            body: String::new(),
        })
    }

    /// The value of the header, whose name is in lower case; `None` if it is there twice.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|header| header.0 == name);
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value)
    }

    /// Whether the request was meant for this server. A foreign name that its owner points at this
    /// machine (DNS rebinding) would let a foreign page read the answers; an address cannot be
    /// pointed elsewhere.
    pub(crate) fn host_is_known(&self, names: &[String]) -> bool {
        let Some(host) = self.header("host") else {
            return false;
        };
        let name = match host.strip_prefix('[') {
            Some(address) => address.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok()
            || names.iter().any(|known| name.eq_ignore_ascii_case(known))
    }
}

fn read_some(mut stream: &TcpStream, bytes: &mut Vec<u8>, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    let mut chunk = [0; 2048];
    match stream.read(&mut chunk)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => {
            bytes.extend_from_slice(&chunk[..count]);
            Ok(())
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_localhost_and_named_hosts_are_known() {
        let names = ["ops.example".to_owned()];
        for (host, known) in [
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("LocalHost", true),
            ("ops.example:80", true),
            ("evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
            ("", false),
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: {host}");
            let request = Request::parse(&head).unwrap();
            assert_eq!(request.host_is_known(&names), known, "{host}");
        }
        let twice = "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example";
        assert!(!Request::parse(twice).unwrap().host_is_known(&names));
        assert!(
            !Request::parse("GET / HTTP/1.1")
                .unwrap()
                .host_is_known(&names)
        );
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for head in [
            "",
            "GET /",
            "GET / HTTP/2",
            "GET / x HTTP/1.1",
            "GET / HTTP/1.1\r\nHost",
        ] {
            assert!(Request::parse(head).is_none(), "{head}");
        }
        assert_eq!(Request::parse("GET /a?b HTTP/1.1").unwrap().path, "/a");
    }
}
