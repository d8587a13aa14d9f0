//! A future that wakes itself is polled again at once.
//!
//! hyper's connection wakes itself twice for a request with a body: whoever reads the body asks whoever reads the
//! socket, and both live in the same task. tokio would put the task at the end of its queue and wake another worker
//! to take it from there: two threads busy with what one is about to do anyway.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// Polls in a row, so that a future that always wakes itself leaves the worker to others.
const MAX_TURNS: usize = 4;

/// Polls a future eagerly.
pub struct Eager<'a, F> {
    future: Pin<&'a mut F>,
    state: Arc<State>,
    waker: Waker,
}

struct State {
    phase: AtomicU8,
    /// The task's.
    task: Mutex<Option<Waker>>,
}

/// Nobody polls: whoever wakes the future wakes its task.
const AWAY: u8 = 0;
/// It is being polled.
const POLLED: u8 = 1;
/// It was woken while it was polled.
const AGAIN: u8 = 2;

impl<'a, F> Eager<'a, F> {
    pub fn new(future: Pin<&'a mut F>) -> Eager<'a, F> {
        let state = Arc::new(State { phase: AtomicU8::new(AWAY), task: Mutex::new(None) });
        Eager { future, waker: state.clone().into(), state }
    }

    /// The future itself.
    pub fn inner(&mut self) -> Pin<&mut F> {
        self.future.as_mut()
    }
}

impl<F: Future> Future for Eager<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<F::Output> {
        let Eager { future, state, waker } = &mut *self;
        state.belongs_to(task.waker());
        for _ in 0..MAX_TURNS {
            state.phase.store(POLLED, Ordering::SeqCst);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(waker)) {
                return Poll::Ready(output);
            }
            if state.phase.compare_exchange(POLLED, AWAY, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return Poll::Pending;
            }
        }
        state.phase.store(AWAY, Ordering::SeqCst);
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

impl State {
    fn belongs_to(&self, waker: &Waker) {
        let mut task = self.task.lock().expect("no panic while held");
        if !task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }
}

impl Wake for State {
    fn wake(self: Arc<State>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<State>) {
        if self.phase.compare_exchange(POLLED, AGAIN, Ordering::SeqCst, Ordering::SeqCst) != Err(AWAY) {
            return;
        }
        let task = self.task.lock().expect("no panic while held");
        if let Some(task) = &*task {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Task>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Polls a future once that wakes itself in its first `wakes` polls: how often it was polled and how often its
    /// task was woken.
    fn check(wakes: usize, expected: (usize, usize)) {
        let (task, mut polls) = (Arc::new(Task::default()), 0);
        let mut future = pin!(poll_fn(|context| {
            polls += 1;
            if polls <= wakes {
                context.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        }));
        let eager = &mut Eager::new(future.as_mut());
        let _ = Pin::new(eager).poll(&mut Context::from_waker(&task.clone().into()));
        assert_eq!((polls, task.0.load(Ordering::SeqCst)), expected);
    }

    #[test]
    fn a_future_that_wakes_itself_is_polled_again_without_its_task() {
        check(0, (1, 0));
        check(2, (3, 0));
    }

    #[test]
    fn one_that_always_does_lets_others_have_a_turn() {
        check(1000, (MAX_TURNS, 1));
    }

    #[test]
    fn between_polls_whoever_wakes_it_wakes_its_task() {
        let task = Arc::new(Task::default());
        let mut kept = None;
        let mut future = pin!(poll_fn(|context| {
            kept = Some(context.waker().clone());
            Poll::<()>::Pending
        }));
        let _ = pin!(Eager::new(future.as_mut())).poll(&mut Context::from_waker(&task.clone().into()));
        kept.unwrap().wake();
        assert_eq!(task.0.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_from_another_thread_is_lost() {
        for _ in 0..2000 {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let sent = tokio::spawn(async move { sender.send(7) });
            assert_eq!(Eager::new(pin!(receiver)).await, Ok(7));
            assert_eq!(sent.await.unwrap(), Ok(()));
        }
    }
}
