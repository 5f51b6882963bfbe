//! A Redis Cluster of the test's own, on free ports of the loopback, with every write on the disk
//! before its answer.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::process::{Account, Process, START, folder, program, said};
use super::skip;

/// Slots of every cluster.
const SLOTS: usize = 16_384;
/// After this the others count a node as failed.
const NODE_TIMEOUT_MS: u32 = 1_000;

struct Node {
    port: u16,
    /// Of the nodes among themselves.
    bus: u16,
    process: Option<Process>,
}

pub struct RedisCluster {
    server: PathBuf,
    account: Account,
    nodes: Vec<Node>,
    masters: usize,
    folder: TempDir,
}

impl RedisCluster {
    /// So many masters that share the slots evenly, in the order of their numbers.
    pub fn own(masters: usize) -> Option<Self> {
        let folders = ["/usr/bin", "/usr/local/bin"].map(PathBuf::from);
        let found = program(&folders, &["redis-server"]).zip(Account::find(&["redis", "nobody"]));
        let Some((server, account)) = found else {
            return skip("there is no Redis, or nobody to run it as");
        };
        let mut new = Self {
            server,
            account,
            nodes: Vec::new(),
            masters,
            folder: folder(account),
        };
        for node in 0..masters {
            new.add();
            // Of two nodes with one epoch each would claim the other's slots.
            new.told(node, &format!("CLUSTER SET-CONFIG-EPOCH {}", node + 1));
            let first = node * SLOTS / masters;
            let last = (node + 1) * SLOTS / masters - 1;
            new.told(node, &format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
        }
        for node in 1..masters {
            new.introduce(node);
        }
        new.wait_until_ok();
        Some(new)
    }

    /// Adds a replica of this node, and waits until it has all of the node's entries.
    pub fn add_replica_of(&mut self, node: usize) -> usize {
        let replica = self.add();
        self.introduce(replica);
        self.wait_until_ok();
        let id = bulk(&self.ask(node, "CLUSTER MYID").expect("it answers"));
        self.told(replica, &format!("CLUSTER REPLICATE {id}"));
        self.wait("the replica is in step", |cluster| {
            let about = cluster.ask(replica, "INFO replication").unwrap_or_default();
            about.contains("master_link_status:up")
        });
        replica
    }

    fn add(&mut self) -> usize {
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = || free().expect("a free port").port();
        self.nodes.push(Node {
            port: port(),
            bus: port(),
            process: None,
        });
        let node = self.nodes.len() - 1;
        let own = self.node_folder(node);
        std::fs::create_dir(&own).expect("a folder");
        self.account.own(&own).expect("its owner");
        self.start(node);
        node
    }

    fn node_folder(&self, node: usize) -> PathBuf {
        self.folder.path().join(node.to_string())
    }

    fn introduce(&self, node: usize) {
        let (port, bus) = (self.nodes[0].port, self.nodes[0].bus);
        self.told(node, &format!("CLUSTER MEET 127.0.0.1 {port} {bus}"));
    }

    /// Starts a node, again if it was killed.
    pub fn start(&mut self, node: usize) {
        let own = self.node_folder(node);
        let log = own.join("log");
        let Node { port, bus, .. } = self.nodes[node];
        let mut command = self.account.command(&self.server);
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
        command.args(["--appendfsync", "always", "--cluster-enabled", "yes"]);
        command.args(["--port", &port.to_string()]);
        command.args(["--cluster-port", &bus.to_string()]);
        command.args(["--cluster-node-timeout", &NODE_TIMEOUT_MS.to_string()]);
        command.arg("--dir").arg(&own);
        let mut process = Process::start(command, &log, &own);
        let up = process.wait_until(&log, || {
            self.ask(node, "PING")
                .is_ok_and(|answer| answer.starts_with("+PONG"))
        });
        assert!(up, "Redis does not start: {}", said(&log));
        self.nodes[node].process = Some(process);
    }

    /// SIGKILL.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].process.take().expect("it runs").kill();
    }

    /// A command without spaces in its arguments, and the answer as it was sent.
    ///
    /// # Errors
    /// The node is not there.
    pub fn ask(&self, node: usize, command: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port(node)))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "{command}\r\nQUIT\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// A command whose answer has to be `OK`.
    pub fn told(&self, node: usize, command: &str) {
        let answer = self.ask(node, command).expect("it answers");
        assert!(answer.starts_with("+OK"), "{command}: {answer}");
    }

    /// Whether this node thinks that every slot is served.
    pub fn is_ok(&self, node: usize) -> bool {
        let about = self.ask(node, "CLUSTER INFO").unwrap_or_default();
        let known = format!("cluster_known_nodes:{}\r\n", self.nodes.len());
        about.contains("cluster_state:ok") && about.contains(&known)
    }

    /// Waits until all nodes that run know each other and think that every slot is served.
    pub fn wait_until_ok(&self) {
        self.wait("the cluster is complete", |cluster| {
            let mut nodes = 0..cluster.nodes.len();
            nodes.all(|node| cluster.nodes[node].process.is_none() || cluster.is_ok(node))
        });
    }

    /// Waits for what the nodes do among themselves.
    pub fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < START, "{what}: not within {START:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The master that had this key's slot at the start.
    pub fn owner(&self, key: &str) -> usize {
        let answer = self.ask(0, &format!("CLUSTER KEYSLOT {key}"));
        let answer = answer.expect("it answers");
        let slot = answer.trim_start_matches(':').split("\r\n").next();
        let slot: usize = slot.and_then(|text| text.parse().ok()).expect("a slot");
        (0..self.masters)
            .find(|node| slot < (node + 1) * SLOTS / self.masters)
            .expect("every slot has an owner")
    }

    pub fn port(&self, node: usize) -> u16 {
        self.nodes[node].port
    }

    pub fn url(&self, node: usize) -> String {
        format!("redis://127.0.0.1:{}/", self.port(node))
    }

    /// Of all nodes.
    pub fn urls(&self) -> Vec<String> {
        (0..self.nodes.len()).map(|node| self.url(node)).collect()
    }
}

/// The text of `$LENGTH\r\nTEXT\r\n`.
fn bulk(answer: &str) -> String {
    answer.split("\r\n").nth(1).unwrap_or_default().to_owned()
}
