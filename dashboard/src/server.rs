//! The threads of the server: one that accepts, and one for each connection.
//!
//! Everything has a limit: the number of connections, the size of a request and its time, and the
//! time of each write. A client that does not read is cut off.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::answer::{self, Answer};
use crate::connections::{Connections, Place};
use crate::request::Request;
use crate::site::Site;

const WRITE_MAX: Duration = Duration::from_secs(2);
/// For the rest of a request that was refused.
const REST_MAX: Duration = Duration::from_millis(100);
/// Between two signs of life on `/events`.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// After an error of `accept`, such as no file handle left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Runs until the connections have ended and one more has come.
pub(crate) fn accept(listener: &TcpListener, connections: &Arc<Connections>, site: &Arc<Site>) {
    for stream in listener.incoming() {
        if connections.has_ended() {
            return;
        }
        let Ok(stream) = stream else {
            // Not to spin.
            thread::sleep(ACCEPT_PAUSE);
            continue;
        };
        // A client that goes away is no concern of the program.
        let _ = admit(stream, connections, site);
    }
}

fn admit(stream: TcpStream, connections: &Arc<Connections>, site: &Arc<Site>) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_MAX))?;
    stream.set_nodelay(true)?;
    let Some(place) = connections.admit(&stream) else {
        Answer::refusal("503 Service Unavailable", "too many connections").send(&stream)?;
        return end(&stream);
    };
    let site = Arc::clone(site);
    thread::Builder::new()
        .name("dashboard-client".to_owned())
        .spawn(move || serve(stream, place, &site))
        .map(drop)
}

/// The place has a handle of the stream too: with it the stream is closed and the place is free.
fn serve(stream: TcpStream, _place: Place, site: &Site) {
    // A client that goes away is no concern of the program.
    let _ = respond(&stream, site);
    drop(stream);
}

fn respond(stream: &TcpStream, site: &Site) -> io::Result<()> {
    let answer = match Request::read(stream) {
        Ok(request) if !request.host_is_known(&site.hosts) => {
            Answer::refusal("403 Forbidden", "this host name is not known here")
        }
        Ok(request) if request.path == "/events" && request.method == "GET" => {
            return events(stream, site, &request);
        }
        Ok(request) => site.answer(&request),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Answer::refusal("400 Bad Request", &error.to_string())
        }
        Err(error) => return Err(error),
    };
    answer.send(stream)?;
    end(stream)
}

/// Closing on unread bytes would reset the connection, and the client would lose the answer.
fn end(mut stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(REST_MAX))?;
    let mut rest = [0; 4096];
    for _ in 0..4 {
        if stream.read(&mut rest)? == 0 {
            break;
        }
    }
    Ok(())
}

/// The history that the client has not seen, and then each frame as it comes.
fn events(mut stream: &TcpStream, site: &Site, request: &Request) -> io::Result<()> {
    answer::stream_head(stream)?;
    write!(
        stream,
        "retry: 1000\n\nevent: hello\ndata: {}\n\n",
        site.hello()
    )?;
    let run = site.run.as_str();
    let id = request.header("last-event-id").unwrap_or_default();
    let mut last = match id.split_once('-') {
        Some((of, sequence)) if of == run => sequence.parse().unwrap_or(0),
        _ => 0,
    };
    // The client knows by their sequence numbers which of them it has.
    let mut seen = vec![0; site.observers.len()];
    while let Some(frames) = site.history.after(last, HEARTBEAT) {
        let mut text = String::new();
        for frame in &frames {
            last = frame.sequence;
            text += &format!("id: {run}-{last}\ndata: {}\n\n", frame.text);
        }
        if let Some(log) = site.log(&mut seen) {
            text += &format!("event: log\ndata: {log}\n\n");
        }
        if text.is_empty() {
            text += ": still here\n\n";
        }
        stream.write_all(text.as_bytes())?;
    }
    Ok(())
}
