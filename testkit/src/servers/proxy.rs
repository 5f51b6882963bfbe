//! A TCP proxy in front of a server's socket that loses the answers to commits.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Pass,
    /// The server commits, the connection breaks before the client hears of it.
    LoseAnswer,
    /// The connection breaks before the server hears of it.
    LoseRequest,
}

type Decide = dyn FnMut(u64) -> Fate + Send;

/// Listens on a free port of the loopback until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    closed: Arc<AtomicBool>,
    commits: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    socket: Arc<Mutex<PathBuf>>,
}

#[derive(Clone)]
struct Shared {
    socket: Arc<Mutex<PathBuf>>,
    decide: Arc<Mutex<Box<Decide>>>,
    commits: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
}

impl Proxy {
    /// `decide` is given the number of the commit, from 1.
    pub fn start(socket: &Path, decide: impl FnMut(u64) -> Fate + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (closed, commits, lost) =
            (Arc::<AtomicBool>::default(), Arc::default(), Arc::default());
        let decide: Arc<Mutex<Box<Decide>>> = Arc::new(Mutex::new(Box::new(decide)));
        let socket = Arc::new(Mutex::new(socket.to_owned()));
        let shared = Shared {
            socket: Arc::clone(&socket),
            decide,
            commits: Arc::clone(&commits),
            lost: Arc::clone(&lost),
        };
        let stop = Arc::clone(&closed);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let socket = shared.socket.lock().expect("no panic").clone();
                if let Ok(server) = UnixStream::connect(socket) {
                    pair(client, server, &shared);
                }
            }
        });
        Self {
            address,
            closed,
            commits,
            lost,
            socket,
        }
    }

    /// New connections go to another server; those that are open stay where they are, as after a
    /// failover.
    pub fn redirect(&self, socket: &Path) {
        socket.clone_into(&mut self.socket.lock().expect("no panic"));
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Commits seen, and of them those that were lost one way or the other.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.commits.load(Ordering::SeqCst),
            self.lost.load(Ordering::SeqCst),
        )
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn pair(client: TcpStream, server: UnixStream, shared: &Shared) {
    let mute = Arc::new(AtomicBool::new(false));
    let (from_client, to_server) = (
        client.try_clone().expect("a handle"),
        server.try_clone().expect("a handle"),
    );
    let (shared, muted) = (shared.clone(), Arc::clone(&mute));
    thread::spawn(move || {
        requests(&from_client, &to_server, &shared, &mute);
        break_both(&from_client, &to_server);
    });
    thread::spawn(move || {
        answers(&client, &server, &muted);
        break_both(&client, &server);
    });
}

fn break_both(client: &TcpStream, server: &UnixStream) {
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

fn requests(mut client: &TcpStream, mut server: &UnixStream, shared: &Shared, mute: &AtomicBool) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = client.read(&mut bytes) {
        let bytes = &bytes[..read];
        // Sent alone, behind the answer to the last statement: never cut in two.
        if bytes.len() < 32 && bytes.windows(6).any(|word| word == b"COMMIT") {
            let number = shared.commits.fetch_add(1, Ordering::SeqCst) + 1;
            let fate = (shared.decide.lock().expect("no panic"))(number);
            shared
                .lost
                .fetch_add(u64::from(fate != Fate::Pass), Ordering::SeqCst);
            match fate {
                Fate::Pass => {}
                Fate::LoseAnswer => mute.store(true, Ordering::SeqCst),
                Fate::LoseRequest => return,
            }
        }
        if server.write_all(bytes).is_err() {
            return;
        }
    }
}

fn answers(mut client: &TcpStream, mut server: &UnixStream, mute: &AtomicBool) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = server.read(&mut bytes) {
        // The answer that is lost has come: the server has committed.
        if mute.load(Ordering::SeqCst) || client.write_all(&bytes[..read]).is_err() {
            return;
        }
    }
}
