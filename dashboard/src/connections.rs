//! The open connections: at most 16, and all of them end with the server.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) const CONNECTIONS_MAX: usize = 16;
/// How long the end waits for the connections' threads.
const END_MAX: Duration = Duration::from_secs(5);

/// See the module's doc.
#[derive(Default)]
pub(crate) struct Connections {
    open: Mutex<Open>,
    left: Condvar,
}

#[derive(Default)]
struct Open {
    streams: HashMap<u64, TcpStream>,
    last: u64,
    has_ended: bool,
}

/// One of the 16 places; free again when it is dropped.
pub(crate) struct Place {
    connections: Arc<Connections>,
    number: u64,
}

impl Connections {
    /// `None` if there is no place.
    pub(crate) fn admit(self: &Arc<Self>, stream: &TcpStream) -> Option<Place> {
        let handle = stream.try_clone().ok()?;
        let mut open = self.open();
        if open.has_ended || open.streams.len() >= CONNECTIONS_MAX {
            return None;
        }
        open.last += 1;
        let number = open.last;
        open.streams.insert(number, handle);
        Some(Place {
            connections: Arc::clone(self),
            number,
        })
    }

    /// Cuts every connection, and waits for their threads.
    pub(crate) fn end(&self) {
        let mut open = self.open();
        open.has_ended = true;
        for stream in open.streams.values() {
            // It is gone already if this fails.
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(
            self.left
                .wait_timeout_while(open, END_MAX, |open| !open.streams.is_empty()),
        );
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.open().has_ended
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().streams.remove(&self.number);
        self.connections.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn the_end_cuts_a_connection_that_waits_and_admits_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let connections = Arc::new(Connections::default());
        let place = connections.admit(&stream).unwrap();
        let reader = thread::spawn(move || {
            let _place = place;
            // No promise: so that the test ends where it fails.
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            stream.read(&mut [0])
        });
        connections.end();
        assert_eq!(reader.join().unwrap().unwrap(), 0);
        assert!(connections.admit(&client).is_none());
    }
}
