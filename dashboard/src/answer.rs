//! What is sent back: a status, a type, a body, and the headers that keep a page to itself.

use std::io::{self, Write};
use std::net::TcpStream;

/// Nothing is loaded from elsewhere, nothing is inline, and no other page shows this one.
const SECURITY: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; \
    style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\nCache-Control: no-store\r\n";

/// See the module's doc.
pub(crate) struct Answer {
    pub(crate) status: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn ok(kind: &'static str, body: impl Into<String>) -> Self {
        Self {
            status: "200 OK",
            kind,
            body: body.into(),
        }
    }

    /// A refusal, with a sentence for people.
    pub(crate) fn refusal(status: &'static str, why: &str) -> Self {
        Self {
            status,
            kind: "text/plain; charset=utf-8",
            body: format!("{why}\n"),
        }
    }

    pub(crate) fn send(&self, mut stream: &TcpStream) -> io::Result<()> {
        let Self { status, kind, body } = self;
        let allow = if status.starts_with("405") {
            "Allow: GET\r\n"
        } else {
            ""
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             {allow}{SECURITY}Connection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())
    }
}

/// The head of an answer that does not end.
pub(crate) fn stream_head(mut stream: &TcpStream) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{SECURITY}Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())
}
