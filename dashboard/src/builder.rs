//! The settings of a dashboard.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use load_aware_batcher::Observer;

use crate::control::Control;
use crate::dashboard::Dashboard;
use crate::site::Site;

/// The settings of a [`Dashboard`]; from [`Dashboard::builder`].
pub struct Builder {
    address: SocketAddr,
    observers: Vec<Observer>,
    hosts: Vec<String>,
    controls: Vec<Control>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            observers: Vec::new(),
            hosts: Vec::new(),
            controls: Vec::new(),
        }
    }

    /// The address to listen on. The default is `127.0.0.1` with a free port, which
    /// [`Dashboard::url`] names.
    ///
    /// Any other address shows the page to everybody who reaches it: there is no login, and the
    /// texts of errors are shown.
    #[must_use]
    pub fn bind(mut self, address: impl Into<SocketAddr>) -> Self {
        self.address = address.into();
        self
    }

    /// Shows one more batcher. At least one is needed.
    #[must_use]
    pub fn watch(mut self, observer: Observer) -> Self {
        self.observers.push(observer);
        self
    }

    /// A host name, without a port, that requests may name. By default they may name an IP address
    /// or `localhost`. Every other name is refused, since a foreign page could point its own name
    /// at this machine.
    #[must_use]
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.hosts.push(name.into());
        self
    }

    /// A row of buttons on the page, of which one is on. The first is on at the start, without a
    /// call of `apply`. `apply` is called with the text of the button that was pressed, on a thread
    /// of the server, never twice at once.
    ///
    /// Without a control the page only shows. With one, whoever reaches the page can press it;
    /// another page of the same browser cannot.
    #[must_use]
    pub fn control<C: Into<String>>(
        mut self,
        name: impl Into<String>,
        choices: impl IntoIterator<Item = C>,
        apply: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        let choices = choices.into_iter().map(Into::into).collect();
        let apply = Box::new(apply);
        self.controls
            .push(Control::new(name.into(), choices, apply));
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if there is no batcher to watch, and whatever the system says of the address
    /// or of a new thread.
    pub fn start(self) -> io::Result<Dashboard> {
        if self.observers.is_empty() {
            let problem = "a dashboard needs a batcher to watch";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let site = Site::new(self.observers, self.controls, self.hosts);
        Dashboard::serve(self.address, site)
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("address", &self.address)
            .field("observers", &self.observers)
            .finish_non_exhaustive()
    }
}
