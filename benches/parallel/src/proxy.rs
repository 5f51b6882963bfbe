//! A TCP proxy in front of a server's socket. It delays every byte, as a slow network does.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How many pieces of at most [`PIECE`] bytes may be on the way in one direction. More wait at the
/// sender, as for the window of a connection.
const PIECES: usize = 512;
const PIECE: usize = 64 * 1024;

/// Listens on a free port of the loopback until it is dropped.
pub struct DelayProxy {
    address: SocketAddr,
    closed: Arc<AtomicBool>,
}

struct Piece {
    due: Instant,
    bytes: Vec<u8>,
}

impl DelayProxy {
    /// `each_way` is half of the round trip.
    pub fn start(socket: &Path, each_way: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let closed = Arc::new(AtomicBool::new(false));
        let (stop, socket) = (Arc::clone(&closed), socket.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(server) = UnixStream::connect(&socket) {
                    join(client, server, each_way);
                }
            }
        });
        Self { address, closed }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for DelayProxy {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        // The listener is in `accept`.
        let _ = TcpStream::connect(self.address);
    }
}

fn join(client: TcpStream, server: UnixStream, each_way: Duration) {
    client.set_nodelay(true).expect("an open connection");
    let (from_client, to_server) = (client.try_clone(), server.try_clone());
    let (from_client, to_server) = (from_client.expect("a handle"), to_server.expect("a handle"));
    direction(from_client, to_server, each_way, |server| {
        server.shutdown(Shutdown::Both)
    });
    direction(server, client, each_way, |client| {
        client.shutdown(Shutdown::Both)
    });
}

/// One thread reads and notes when the bytes are due. Another one writes them at that time. A
/// single thread would need a timeout for each read, and the kernel rounds a socket's timeout up to
/// its clock tick, which may be 4 ms.
fn direction<R, W>(
    mut from: R,
    mut to: W,
    each_way: Duration,
    end: impl Fn(&W) -> std::io::Result<()> + Send + 'static,
) where
    R: Read + Send + 'static,
    W: Write + Send + 'static,
{
    let (pieces, due): (SyncSender<Piece>, Receiver<Piece>) = sync_channel(PIECES);
    thread::spawn(move || {
        let mut bytes = vec![0; PIECE];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            let piece = Piece {
                due: Instant::now() + each_way,
                bytes: bytes[..read].to_vec(),
            };
            if pieces.send(piece).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for piece in due {
            // Bytes that are already due are written at once, so the delay does not limit
            // throughput.
            thread::sleep(piece.due.saturating_duration_since(Instant::now()));
            if to.write_all(&piece.bytes).is_err() {
                break;
            }
        }
        // The peer learns of the end of the connection, and so does the reader.
        let _ = end(&to);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    const EACH_WAY: Duration = Duration::from_millis(20);

    /// A server that sends back every byte.
    fn echo(folder: &Path) -> std::path::PathBuf {
        let socket = folder.join("echo");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut to = stream.try_clone().unwrap();
                    std::io::copy(&mut &stream, &mut to)
                });
            }
        });
        socket
    }

    #[test]
    fn every_byte_comes_back_in_order_and_no_earlier_than_after_both_delays() {
        let folder = std::env::temp_dir().join(format!("delay-proxy-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let proxy = DelayProxy::start(&echo(&folder), EACH_WAY);
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        let sent: Vec<u8> = (0..PIECE * 3).map(|place| (place % 251) as u8).collect();
        let begun = Instant::now();
        let mut writer = stream.try_clone().unwrap();
        let bytes = sent.clone();
        let writing = thread::spawn(move || writer.write_all(&bytes));
        let mut first = [0];
        stream.read_exact(&mut first).unwrap();
        assert!(begun.elapsed() >= 2 * EACH_WAY);
        let mut rest = vec![0; sent.len() - 1];
        stream.read_exact(&mut rest).unwrap();
        writing.join().unwrap().unwrap();
        assert_eq!([&first[..], &rest[..]].concat(), sent);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
