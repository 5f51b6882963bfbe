//! What the tests share: a handler that is directed call by call, a gate, and a net under what
//! might hang.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use load_aware_batcher::{
    Batch, BatchError, BatchId, Batcher, Builder, Fixed, Handler, LoadFeedback, Stats, Trigger,
};

/// Long enough for everything that ends at all: only failures wait for it.
pub const LONG: Duration = Duration::from_secs(60);
/// A linger or backoff that no test lives to see; nor a millionth of it, since backoffs are drawn.
pub const NEVER: Duration = Duration::from_secs(1_000_000_000);

/// A builder of fixed size: nothing is handed over but full batches, what is flushed, and what a
/// close finds. Dropped, the batcher leaves a handler behind that still waits for its director.
pub fn fixed<T: Send + 'static>(size: usize) -> Builder<T> {
    let sizes = Batcher::builder()
        .initial_batch_size(size)
        .min_batch_size(size)
        .max_batch_size(size);
    sizes
        .policy(Fixed(size))
        .linger(NEVER)
        .close_timeout(Duration::ZERO)
}

/// Runs the body, and fails instead of hanging.
pub fn ends<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    ends_within(LONG, body)
}

/// The same for a body that has much to do: the time is for the slowest machine.
pub fn ends_within<R: Send + 'static>(
    time: Duration,
    body: impl FnOnce() -> R + Send + 'static,
) -> R {
    let (done, result) = mpsc::channel();
    let thread = std::thread::spawn(move || drop(done.send(body())));
    match result.recv_timeout(time) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().unwrap_err())
        }
    }
}

/// Looks until the batcher shows what is expected.
pub fn until<T: Send>(batcher: &Batcher<T>, expected: impl Fn(&Stats) -> bool) -> Stats {
    let begun = Instant::now();
    loop {
        let stats = batcher.stats();
        if expected(&stats) {
            return stats;
        }
        assert!(begun.elapsed() < LONG, "not seen: {stats:#?}");
        std::thread::yield_now();
    }
}

/// Waits until the first call of a directed handler is settled: what failed in it is in backoff, or
/// halved, or failed.
pub fn first_call_settled<T: Send>(batcher: &Batcher<T>) {
    until(batcher, |stats| !stats.service_time.max.is_zero());
}

/// Waits until somebody sets it.
pub fn wait_for<T>(place: &OnceLock<T>) -> &T {
    loop {
        match place.get() {
            Some(value) => return value,
            None => std::thread::yield_now(),
        }
    }
}

/// Shut until opened.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub fn wait(&self) {
        drop(
            self.0
                .1
                .wait_while(self.0.0.lock().unwrap(), |open| !*open)
                .unwrap(),
        );
    }
}

/// What the handler was lent.
#[derive(Clone, Debug, PartialEq)]
pub struct Call<T> {
    pub items: Vec<T>,
    pub id: BatchId,
    pub parent: Option<BatchId>,
    pub attempt: u32,
    pub trigger: Trigger,
    pub at: Instant,
}

/// What the handler is to do.
pub enum Reply {
    Ok,
    /// The rows with these indices, permanently.
    Reject(Vec<usize>),
    Err(BatchError),
    Panic,
}

/// Directs the handler of [`directed`]: each call is seen, and waits for its reply. Dropped, every
/// call is `Ok`.
pub struct Director<T> {
    calls: mpsc::Receiver<Call<T>>,
    replies: mpsc::Sender<Reply>,
}

impl<T> Director<T> {
    /// The next call. It waits for [`reply`](Self::reply).
    pub fn call(&self) -> Call<T> {
        self.calls
            .recv_timeout(LONG)
            .expect("the handler is called")
    }

    pub fn reply(&self, reply: Reply) {
        let _ = self.replies.send(reply);
    }

    /// The next call's items, and its reply.
    pub fn answer(&self, reply: Reply) -> Vec<T> {
        let call = self.call();
        self.reply(reply);
        call.items
    }

    /// Whether the handler was called again, or is gone.
    pub fn no_call(&self) -> bool {
        self.calls.try_recv().is_err()
    }

    /// Waits until the handler is dropped; true if it was not called again.
    pub fn gone(&self) -> bool {
        matches!(
            self.calls.recv_timeout(LONG),
            Err(mpsc::RecvTimeoutError::Disconnected)
        )
    }
}

/// A handler that does as its director says.
pub struct Directed<T> {
    calls: mpsc::Sender<Call<T>>,
    replies: mpsc::Receiver<Reply>,
}

pub fn directed<T: Clone>() -> (Directed<T>, Director<T>) {
    let (calls, called) = mpsc::channel();
    let (reply, replies) = mpsc::channel();
    (
        Directed { calls, replies },
        Director {
            calls: called,
            replies: reply,
        },
    )
}

impl<T: Clone> Handler<T> for Directed<T> {
    fn handle(&mut self, batch: &mut Batch<T>) -> Result<LoadFeedback, BatchError> {
        let at = Instant::now();
        let _ = self.calls.send(Call {
            items: batch.to_vec(),
            id: batch.id(),
            parent: batch.parent(),
            attempt: batch.attempt(),
            trigger: batch.trigger(),
            at,
        });
        let reply = self.replies.recv().unwrap_or(Reply::Ok);
        // No call is too short for the clock: that it took time shows that it is settled.
        while at.elapsed().is_zero() {
            std::thread::yield_now();
        }
        match reply {
            Reply::Ok => {}
            Reply::Reject(rows) => {
                rows.into_iter()
                    .for_each(|row| batch.reject(row, BatchError::permanent("rejected")));
            }
            Reply::Err(error) => return Err(error),
            // Without the panic hook, which would print it.
            Reply::Panic => std::panic::resume_unwind(Box::new("directed")),
        }
        Ok(LoadFeedback::new())
    }
}
