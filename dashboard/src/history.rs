//! The frames of the last ten minutes. Written by the watcher; read by the connections.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A frame every half a second, for ten minutes.
pub(crate) const FRAMES_MAX: usize = 1200;

/// The numbers of all batchers at one time, as JSON.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    /// Its place among all frames, from 1.
    pub(crate) sequence: u64,
    pub(crate) text: Arc<str>,
}

/// See the module's doc.
#[derive(Default)]
pub(crate) struct History {
    kept: Mutex<Kept>,
    news: Condvar,
}

#[derive(Default)]
struct Kept {
    frames: VecDeque<Frame>,
    last: u64,
    has_ended: bool,
}

impl History {
    pub(crate) fn push(&self, text: String) {
        let mut kept = self.kept();
        kept.last += 1;
        let sequence = kept.last;
        if kept.frames.len() == FRAMES_MAX {
            kept.frames.pop_front();
        }
        kept.frames.push_back(Frame {
            sequence,
            text: text.into(),
        });
        drop(kept);
        self.news.notify_all();
    }

    /// The kept frames after the frame `seen`. Waits up to `timeout` for one; `None` once the
    /// server ends.
    pub(crate) fn after(&self, seen: u64, timeout: Duration) -> Option<Vec<Frame>> {
        let (kept, _) = self
            .news
            .wait_timeout_while(self.kept(), timeout, |kept| {
                !kept.has_ended && kept.last <= seen
            })
            .unwrap_or_else(PoisonError::into_inner);
        if kept.has_ended {
            return None;
        }
        let new = kept.frames.iter().filter(|frame| frame.sequence > seen);
        Some(new.cloned().collect())
    }

    /// Waits for the end, up to `timeout`; says whether it has come.
    pub(crate) fn ends_within(&self, timeout: Duration) -> bool {
        let (kept, _) = self
            .news
            .wait_timeout_while(self.kept(), timeout, |kept| !kept.has_ended)
            .unwrap_or_else(PoisonError::into_inner);
        kept.has_ended
    }

    pub(crate) fn end(&self) {
        self.kept().has_ended = true;
        self.news.notify_all();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_frame_goes_when_ten_minutes_are_kept() {
        let history = History::default();
        for number in 0..=FRAMES_MAX {
            history.push(number.to_string());
        }
        let frames = history.after(0, Duration::ZERO).unwrap();
        assert_eq!(frames.len(), FRAMES_MAX);
        assert_eq!(&*frames[0].text, "1");
        let newest = frames.last().unwrap();
        assert_eq!(newest.sequence, FRAMES_MAX as u64 + 1);
        assert_eq!(history.after(newest.sequence, Duration::ZERO), Some(vec![]));
    }

    #[test]
    fn the_end_ends_every_wait() {
        let history = History::default();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| history.after(0, Duration::MAX));
            history.end();
            assert_eq!(waiter.join().unwrap(), None);
        });
        assert!(history.ends_within(Duration::MAX));
    }
}
