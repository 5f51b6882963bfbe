//! What the lanes of a batcher show that a policy cannot see: handlers that nobody uses, and one that
//! bounds all others. Looked at by the controller at each check.

use crate::batcher::route::Route;
use crate::flush::lanes::Lanes;
use crate::policy::Reason;
use crate::sync::Arc;

/// With fewer items than this since the last check, their spread says nothing.
const ITEMS_MIN: u64 = 256;
/// So many times its fair share makes a lane hot.
const HOT: f64 = 2.0;

/// A look at the lanes of a batcher that has several and spreads items like this.
pub(crate) fn watch<T: Send + 'static>(
    lanes: &Arc<Lanes<T>>,
    route: &Route<T>,
) -> Option<Box<dyn FnMut() -> Option<Reason> + Send>> {
    let handlers = lanes.all().len();
    let lanes = Arc::clone(lanes);
    match route {
        _ if handlers == 1 => None,
        Route::Unordered => None,
        Route::ByProducer => {
            let mut said = handlers;
            Some(Box::new(move || {
                let used = lanes.with_handles().max(1);
                let is_new = std::mem::replace(&mut said, used) != used;
                (is_new && used < handlers).then_some(Reason::FewProducers { used, handlers })
            }))
        }
        Route::ByKey(_) => {
            let mut spread = Spread::default();
            Some(Box::new(move || {
                let backlogs = lanes.lock();
                let of_lanes = backlogs.iter().zip(lanes.all());
                let added = of_lanes.map(|(backlog, lane)| backlog.added(&lane.gate));
                spread.hot(added.collect())
            }))
        }
    }
}

/// How items are spread over lanes.
#[derive(Default)]
struct Spread {
    /// Items added to each, as of the last check.
    before: Vec<u64>,
    /// The hot lane that was named last.
    named: Option<usize>,
}

impl Spread {
    /// The lane that has become hot since the last check. Each is named once, until another is or
    /// none.
    fn hot(&mut self, added: Vec<u64>) -> Option<Reason> {
        self.before.resize(added.len(), 0);
        let news = added.iter().zip(&self.before).map(|(now, then)| now - then);
        let news: Vec<u64> = news.collect();
        self.before = added;
        let all = news.iter().sum::<u64>();
        let (worker, most) = news.iter().enumerate().max_by_key(|(_, items)| **items)?;
        if all < ITEMS_MIN {
            return None;
        }
        let share = *most as f64 / all as f64;
        // Of two lanes, three quarters are as far from half as all is.
        let fair = 1.0 / news.len() as f64;
        let is_hot = share > (HOT * fair).min(0.5 + fair / 2.0);
        let hot = is_hot.then_some(worker);
        let is_new = hot.is_some() && self.named != hot;
        self.named = hot;
        is_new.then_some(Reason::HotKey { worker, share })
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_hot_lane_is_named_once() {
        let mut spread = Spread::default();
        assert_eq!(spread.hot(vec![100, 120, 90, 110]), None);
        let hot = Some(Reason::HotKey {
            worker: 2,
            share: 0.7,
        });
        assert_eq!(spread.hot(vec![200, 220, 790, 210]), hot);
        assert_eq!(spread.hot(vec![300, 320, 1_490, 310]), None, "it was named");
        assert_eq!(spread.hot(vec![600, 620, 1_790, 610]), None, "even again");
        assert_eq!(spread.hot(vec![700, 720, 2_490, 710]), hot, "and hot again");
    }

    #[test]
    fn few_items_and_two_lanes_need_more_to_be_called_hot() {
        let mut spread = Spread::default();
        assert_eq!(spread.hot(vec![0, 255]), None);
        assert_eq!(spread.hot(vec![300, 955]), None, "seven in ten of two");
        assert!(spread.hot(vec![400, 1_855]).is_some(), "nine in ten");
    }

    #[test]
    fn the_reasons_are_sentences() {
        let few = Reason::FewProducers {
            used: 1,
            handlers: 8,
        };
        assert_eq!(few.to_string(), "1 producer handle uses 1 of 8 lanes");
        let hot = Reason::HotKey {
            worker: 3,
            share: 0.5,
        };
        assert!(hot.to_string().starts_with("lane 3 gets 50 % of the items"));
    }
}
