//! A proxy in front of a Redis node that loses one answer.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Once armed, the next answer with entries breaks its connection instead of being passed on.
#[derive(Clone, Default)]
pub struct Armed(Arc<AtomicBool>);

impl Armed {
    pub fn arm(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn has_lost(&self) -> bool {
        !self.0.load(Ordering::SeqCst)
    }
}

/// The port of the proxy. It ends with the process.
pub fn lossy(server: u16, armed: &Armed) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    let armed = armed.clone();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if let Ok(server) = TcpStream::connect(("127.0.0.1", server)) {
                let requests = (clone(&client), clone(&server));
                thread::spawn(move || pass(requests.0, requests.1, |_| true));
                let armed = armed.clone();
                thread::spawn(move || pass(server, client, |answer| !loses(answer, &armed)));
            }
        }
    });
    port
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a handle")
}

/// An entry has its field's name in it; no other answer here has.
fn loses(answer: &[u8], armed: &Armed) -> bool {
    let has_entries = answer.windows(9).any(|bytes| bytes == b"\r\n$1\r\nn\r\n");
    has_entries && armed.0.swap(false, Ordering::SeqCst)
}

fn pass(mut from: TcpStream, mut to: TcpStream, passes: impl Fn(&[u8]) -> bool) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if !passes(&bytes[..read]) || to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
