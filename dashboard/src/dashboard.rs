//! The handle of a running server.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use load_aware_batcher::Observer;

use crate::builder::Builder;
use crate::connections::Connections;
use crate::site::Site;
use crate::{server, watcher};

/// How long the end tries to wake the thread that accepts.
const WAKE_MAX: Duration = Duration::from_secs(1);

/// A running server. It ends when this is dropped.
///
/// It keeps no batcher open. A batcher that was dropped stays on the page with its last numbers.
///
/// ```
/// use load_aware_batcher::{Batch, Batcher, LoadFeedback};
/// use load_aware_batcher_dashboard::Dashboard;
///
/// let batcher = Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))?;
/// let dashboard = Dashboard::start([batcher.observer()])?;
/// println!("{}", dashboard.url());
/// # assert!(dashboard.url().starts_with("http://127.0.0.1:"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the server ends when this is dropped"]
pub struct Dashboard {
    address: SocketAddr,
    site: Arc<Site>,
    connections: Arc<Connections>,
    threads: Vec<JoinHandle<()>>,
}

impl Dashboard {
    /// Serves the page of these batchers on `127.0.0.1` and a free port. The same as
    /// [`Dashboard::builder`] without settings.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if there is no observer, and whatever the system says of the address or of a
    /// new thread.
    pub fn start(observers: impl IntoIterator<Item = Observer>) -> io::Result<Self> {
        observers
            .into_iter()
            .fold(Self::builder(), Builder::watch)
            .start()
    }

    /// Settings first.
    ///
    /// ```
    /// # use load_aware_batcher::{Batch, Batcher, LoadFeedback};
    /// use std::net::SocketAddr;
    /// use load_aware_batcher_dashboard::Dashboard;
    ///
    /// # let start = || Batcher::builder().spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()));
    /// let (orders, readings) = (start()?, start()?);
    /// let dashboard = Dashboard::builder()
    ///     .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
    ///     .watch(orders.observer())
    ///     .watch(readings.observer())
    ///     .control("producers", ["on", "off"], |choice| println!("producers: {choice}"))
    ///     .start()?;
    /// # drop(dashboard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn serve(address: SocketAddr, site: Site) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let mut dashboard = Self {
            address: listener.local_addr()?,
            site: Arc::new(site),
            connections: Arc::default(),
            threads: Vec::new(),
        };
        // If the second thread does not start, the drop ends the first.
        let site = Arc::clone(&dashboard.site);
        dashboard.spawn("dashboard-watch", move || watcher::watch(&site))?;
        let (site, connections) = (
            Arc::clone(&dashboard.site),
            Arc::clone(&dashboard.connections),
        );
        dashboard.spawn("dashboard", move || {
            server::accept(&listener, &connections, &site)
        })?;
        Ok(dashboard)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        self.threads.push(thread);
        Ok(())
    }

    /// The address of the page. If the server listens on every address, it is the one of this
    /// machine for itself.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.reachable())
    }

    /// The address that the server listens on, with the port that it got.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn reachable(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.address.port())
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.site.history.end();
        self.connections.end();
        // A connection wakes the thread that waits for one. Without it that thread may not end.
        if TcpStream::connect_timeout(&self.reachable(), WAKE_MAX).is_err() {
            return;
        }
        for thread in self.threads.drain(..) {
            // A panic of theirs was printed.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dashboard")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
