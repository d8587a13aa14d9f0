//! Plans of the starts of a moment ago. To plan one takes some sixty looks at the machine's files, which hardly change
//! between the starts of one burst; and between its plan and its own first step a start may wait for as long anyhow.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A plan is taken again for this long.
const FRESH: Duration = Duration::from_millis(100);
/// Of functions that are started in turns, so many plans are kept.
const MOST: usize = 8;

/// The latest plans (`P`) of what is to be started (`S`), latest first.
pub struct Plans<S, P>(Mutex<VecDeque<(Instant, Arc<S>, P)>>);

impl<S, P: Clone> Plans<S, P> {
    /// None yet.
    pub fn new() -> Plans<S, P> {
        Plans(Mutex::default())
    }

    /// What was planned for this very `spec` a moment before `now`.
    pub fn fresh(&self, now: Instant, spec: &Arc<S>) -> Option<P> {
        let mut plans = self.0.lock().expect("no panic while held");
        plans.retain(|(made, ..)| now.duration_since(*made) < FRESH);
        plans.iter().find(|(_, other, _)| Arc::ptr_eq(other, spec)).map(|(.., plan)| plan.clone())
    }

    /// Keeps a plan that was made `now`.
    pub fn keep(&self, now: Instant, spec: &Arc<S>, plan: &P) {
        let mut plans = self.0.lock().expect("no panic while held");
        plans.truncate(MOST - 1);
        plans.push_front((now, spec.clone(), plan.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_taken_again_for_the_same_function_and_a_moment_only() {
        let (plans, now, later) = (Plans::new(), Instant::now(), Duration::from_millis);
        let (one, like_it) = (Arc::new("f"), Arc::new("f"));
        assert_eq!(plans.fresh(now, &one), None);
        plans.keep(now, &one, &1);
        assert_eq!(plans.fresh(now + later(99), &one), Some(1));
        assert_eq!(plans.fresh(now + later(99), &like_it), None, "after an update");
        assert_eq!(plans.fresh(now + later(100), &one), None);
    }

    #[test]
    fn of_many_functions_the_latest_plans_are_kept() {
        let (plans, now) = (Plans::new(), Instant::now());
        let functions: Vec<Arc<usize>> = (0..20).map(Arc::new).collect();
        functions.iter().for_each(|function| plans.keep(now, function, function));
        let kept = functions.iter().filter_map(|function| plans.fresh(now, function));
        assert_eq!(kept.map(|function| *function).collect::<Vec<_>>(), (20 - MOST..20).collect::<Vec<_>>());
    }
}
