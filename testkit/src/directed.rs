//! A handler whose calls a test answers one by one.

use std::sync::mpsc;
use std::time::Instant;

use load_aware_batcher::{Batch, BatchError, BatchId, Handler, LoadFeedback, Trigger};

use crate::LONG;

/// A call of the handler.
#[derive(Clone, Debug, PartialEq)]
pub struct Call<T> {
    pub items: Vec<T>,
    pub id: BatchId,
    pub parent: Option<BatchId>,
    pub attempt: u32,
    pub trigger: Trigger,
    pub at: Instant,
}

/// The answer to a call.
pub enum Reply {
    Ok,
    /// The rows with these indices, permanently.
    Reject(Vec<usize>),
    /// The same in a call that fails.
    RejectAndErr(Vec<usize>, BatchError),
    /// The rows with these indices are asked for again.
    Retry(Vec<usize>, BatchError),
    Err(BatchError),
    Panic,
}

/// Directs the handler of [`directed`]. It sees each call, and the call waits for its reply. After
/// its drop every call is `Ok`.
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

    /// Whether the handler was called again or was dropped.
    pub fn no_call(&self) -> bool {
        self.calls.try_recv().is_err()
    }

    /// Waits until the handler is dropped. True if it was not called again.
    pub fn gone(&self) -> bool {
        matches!(
            self.calls.recv_timeout(LONG),
            Err(mpsc::RecvTimeoutError::Disconnected)
        )
    }
}

/// A handler and its director.
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
        // Every call is long enough for the clock. A service time above zero shows that it has
        // ended.
        while at.elapsed().is_zero() {
            std::thread::yield_now();
        }
        match reply {
            Reply::Ok => {}
            Reply::Reject(rows) => {
                rows.into_iter()
                    .for_each(|row| batch.reject(row, BatchError::permanent("rejected")));
            }
            Reply::RejectAndErr(rows, error) => {
                rows.into_iter()
                    .for_each(|row| batch.reject(row, BatchError::permanent("rejected")));
                return Err(error);
            }
            Reply::Retry(rows, error) => {
                rows.into_iter()
                    .for_each(|row| batch.retry(row, error.clone()));
            }
            Reply::Err(error) => return Err(error),
            // Without the panic hook, which would print the panic.
            Reply::Panic => std::panic::resume_unwind(Box::new("directed")),
        }
        Ok(LoadFeedback::new())
    }
}
