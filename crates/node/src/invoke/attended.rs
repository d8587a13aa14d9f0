//! An invocation outlives its caller, yet as long as the caller waits it needs no task of its own: one hop less on
//! the warm path.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Work that answers somewhere on its way, run by whoever awaits the answer. It goes on by itself, as a task, once
/// the answer is there or nobody waits for it any more.
pub struct Attended<T> {
    /// `None`: it has ended.
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    answer: oneshot::Receiver<T>,
}

impl<T> Attended<T> {
    /// `work` sends its answer to `answer`'s other end.
    pub fn new(work: impl Future<Output = ()> + Send + 'static, answer: oneshot::Receiver<T>) -> Attended<T> {
        Attended { work: Some(Box::pin(work)), answer }
    }
}

impl<T> Future for Attended<T> {
    /// An error: the work ended without an answer.
    type Output = Result<T, oneshot::error::RecvError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(work) = &mut this.work {
            // As in a task of its own, a panic ends the work and not who waits for it.
            let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
            if !matches!(polled, Ok(Poll::Pending)) {
                this.work = None;
            }
        }
        Pin::new(&mut this.answer).poll(context)
    }
}

impl<T> Drop for Attended<T> {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        // Without a runtime the server has ended, and its instances with it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::Notify;

    /// Work that is told to go on, answers, is told to go on, and says that it has ended.
    fn work() -> (Attended<&'static str>, Arc<Notify>, oneshot::Receiver<()>) {
        let (go_on, (sender, answer), (end, ended)) =
            (Arc::new(Notify::new()), oneshot::channel(), oneshot::channel());
        let told = go_on.clone();
        let work = async move {
            told.notified().await;
            let _ = sender.send("answer");
            told.notified().await;
            let _ = end.send(());
        };
        (Attended::new(work, answer), go_on, ended)
    }

    #[tokio::test]
    async fn work_goes_on_after_its_answer() {
        let (attended, go_on, ended) = work();
        go_on.notify_one();
        assert_eq!(attended.await, Ok("answer"));
        go_on.notify_one();
        assert_eq!(ended.await, Ok(()));
    }

    #[tokio::test]
    async fn work_goes_on_when_nobody_waits_for_its_answer_any_more() {
        let (mut attended, go_on, mut ended) = work();
        assert!(
            std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut attended).poll(context)))
                .await
                .is_pending()
        );
        drop(attended);
        assert!(ended.try_recv().is_err());
        go_on.notify_one();
        tokio::task::yield_now().await;
        go_on.notify_one();
        assert_eq!(ended.await, Ok(()));
    }

    #[tokio::test]
    async fn work_that_ends_or_panics_without_an_answer_is_an_error() {
        for panics in [false, true] {
            let (sender, answer) = oneshot::channel::<()>();
            let work = async move {
                let _sender = sender;
                assert!(!panics, "as intended");
            };
            assert!(Attended::new(work, answer).await.is_err());
        }
    }
}
