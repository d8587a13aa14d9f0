use crate::{
    Executor, Instance, InstanceSpec, Invocation, InvokeResult, LogEvent, LogSink, Payload, StartFailure,
    Unready,
};
use bytes::Bytes;
use model::{RequestId, Timestamp};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;

/// The functions that the suite runs, as this executor runs them. Each answers an event as its name says.
pub struct Functions {
    /// Answers with the event it got, after writing the line `got it`.
    pub echo: InstanceSpec,
    /// Reports an error whose JSON contains `no luck` (or ends its answer in the contract's way of failing).
    pub fails: InstanceSpec,
    /// Ends itself with status 3 instead of answering.
    pub exits: InstanceSpec,
    /// Never answers. Its timeout should be short: the suite waits for it.
    pub hangs: InstanceSpec,
    /// Ends itself with status 4 before it is ready.
    pub never_starts: InstanceSpec,
    /// Answers with a number, how often something that it does in the background, every 5 ms or so, has been done.
    pub counts: InstanceSpec,
    /// Never becomes ready. Its initialisation timeout should be short.
    pub hangs_before_ready: InstanceSpec,
}

/// Checks an implementation of [`Executor`] with functions that keep to the contract's words.
pub async fn executor(executor: &dyn Executor, functions: Functions) {
    an_instance_answers_one_event_after_another(executor, &functions).await;
    a_large_event_comes_back_whole(executor, &functions).await;
    lines_belong_to_the_invocation_that_wrote_them(executor, &functions).await;
    an_error_leaves_the_instance_usable(executor, &functions).await;
    an_instance_that_ends_says_how(executor, &functions).await;
    a_timeout_ends_the_instance(executor, &functions).await;
    a_stopped_instance_is_gone(executor, &functions).await;
    a_frozen_instance_stands_still_and_goes_on_when_it_is_thawed(executor, &functions).await;
    a_frozen_instance_can_be_stopped(executor, &functions).await;
    a_start_that_fails_says_how(executor, &functions).await;
    a_start_has_a_time_limit(executor, &functions).await;
}

/// Keeps what it is given.
#[derive(Default)]
struct Lines(Mutex<Vec<LogEvent>>);

impl LogSink for Lines {
    fn write(&self, event: LogEvent) {
        self.0.lock().unwrap().push(event);
    }
}

async fn start(executor: &dyn Executor, spec: &InstanceSpec) -> (Arc<dyn Instance>, Arc<Lines>) {
    let lines = Arc::new(Lines::default());
    let started = executor.start(Arc::new(spec.clone()), "stream".into(), lines.clone()).await;
    match started {
        Ok(started) => (started.instance, lines),
        Err(failure) => panic!("{} should start: {failure:?}", spec.function),
    }
}

fn id(n: u128) -> RequestId {
    RequestId(uuid::Uuid::from_u128(n))
}

fn event(n: u128, event: impl Into<Bytes>) -> Invocation {
    Invocation {
        request_id: id(n),
        invoked_arn: "arn:aws:lambda:us-east-1:000000000000:function:f".into(),
        deadline: Timestamp(4_102_444_800_000),
        payload: Payload::Event(event.into()),
        trace_id: "Root=1-00000000-000000000000000000000000;Parent=0000000000000000;Sampled=0".into(),
        client_context: None,
        cognito_identity: None,
    }
}

async fn invoke(instance: &dyn Instance, invocation: Invocation) -> (InvokeResult, bool) {
    let completion = instance.invoke(invocation, oneshot::channel().0).await;
    (completion.result, completion.reusable)
}

async fn an_instance_answers_one_event_after_another(executor: &dyn Executor, functions: &Functions) {
    let (instance, _) = start(executor, &functions.echo).await;
    for n in 0..20 {
        let sent = format!(r#"{{"n":{n}}}"#);
        match invoke(&*instance, event(n, sent.clone())).await {
            (InvokeResult::Answer(answer), true) => {
                // A runtime may lay the JSON out anew.
                let answer = String::from_utf8_lossy(&answer).replace(' ', "");
                assert_eq!(answer, sent, "the answer to another event");
            }
            other => panic!("event {n}: {other:?}"),
        }
    }
    instance.stop(Duration::ZERO).await;
}

async fn a_large_event_comes_back_whole(executor: &dyn Executor, functions: &Functions) {
    let (instance, _) = start(executor, &functions.echo).await;
    let large = format!("\"{}\"", "x".repeat(5 << 20));
    match invoke(&*instance, event(1, large.clone())).await {
        (InvokeResult::Answer(answer), true) => assert!(answer == large, "5 MiB came back changed"),
        (_, reusable) => panic!("5 MiB were not answered (reusable: {reusable})"),
    }
    instance.stop(Duration::ZERO).await;
}

async fn lines_belong_to_the_invocation_that_wrote_them(executor: &dyn Executor, functions: &Functions) {
    let (instance, lines) = start(executor, &functions.echo).await;
    for n in 1..=3 {
        invoke(&*instance, event(n, "1")).await;
        let lines = lines.0.lock().unwrap();
        let of_this = lines.iter().filter(|line| line.request_id == Some(id(n)) && line.message == "got it");
        assert_eq!(of_this.count(), 1, "lines are there when the answer is: {lines:?}");
    }
    instance.stop(Duration::ZERO).await;
}

async fn an_error_leaves_the_instance_usable(executor: &dyn Executor, functions: &Functions) {
    let (instance, _) = start(executor, &functions.fails).await;
    for n in 0..2 {
        match invoke(&*instance, event(n, "1")).await {
            (InvokeResult::Error(json), true) => {
                assert!(String::from_utf8_lossy(&json).contains("no luck"), "{json:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    instance.stop(Duration::ZERO).await;
}

async fn an_instance_that_ends_says_how(executor: &dyn Executor, functions: &Functions) {
    let (instance, _) = start(executor, &functions.exits).await;
    match invoke(&*instance, event(1, "1")).await {
        (InvokeResult::Exited(exit), false) => assert_eq!(exit, crate::Exit::Status(3)),
        other => panic!("{other:?}"),
    }
    assert_eq!(instance.gone().await, crate::Exit::Status(3));
}

async fn a_timeout_ends_the_instance(executor: &dyn Executor, functions: &Functions) {
    let (instance, _) = start(executor, &functions.hangs).await;
    match invoke(&*instance, event(1, "1")).await {
        (InvokeResult::TimedOut, false) => {}
        other => panic!("{other:?}"),
    }
    instance.gone().await;
}

async fn a_stopped_instance_is_gone(executor: &dyn Executor, functions: &Functions) {
    let (instance, _) = start(executor, &functions.echo).await;
    assert!(instance.memory().is_some(), "a live instance uses memory");
    instance.stop(Duration::from_millis(200)).await;
    instance.gone().await;
    assert_eq!(instance.memory(), None, "nothing of it is left");
}

/// What the function `counts` has counted up to.
async fn count(instance: &dyn Instance) -> u64 {
    match invoke(instance, event(1, "1")).await {
        (InvokeResult::Answer(answer), true) => {
            let answer = String::from_utf8_lossy(&answer);
            answer.trim().parse().unwrap_or_else(|_| panic!("a number, not {answer}"))
        }
        other => panic!("{other:?}"),
    }
}

/// Waits until it has counted so much further.
async fn counts_by(instance: &dyn Instance, more: u64) {
    let from = count(instance).await;
    while count(instance).await < from + more {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Two instances count. While one is frozen the other, which is not, counts to a hundred: that is how long it takes.
async fn a_frozen_instance_stands_still_and_goes_on_when_it_is_thawed(
    executor: &dyn Executor,
    functions: &Functions,
) {
    let (instance, _) = start(executor, &functions.counts).await;
    let (clock, _) = start(executor, &functions.counts).await;
    for round in 0..2 {
        counts_by(&*instance, 5).await;
        let before = count(&*instance).await;
        let frozen = instance.freeze();
        let again = instance.freeze();
        counts_by(&*clock, 100).await;
        match &frozen {
            Ok(()) => {
                assert!(again.is_ok(), "freezing twice is freezing: {again:?}");
                instance.page_out().await;
                assert!(instance.memory().is_some(), "it is still there");
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::Unsupported, "{error}"),
        }
        assert!(instance.thaw().is_ok() && instance.thaw().is_ok(), "thawing twice is thawing");
        let after = count(&*instance).await;
        if frozen.is_ok() {
            assert!(after < before + 50, "round {round}: it went on from {before} to {after} while frozen");
        }
        counts_by(&*instance, 5).await;
    }
    instance.stop(Duration::ZERO).await;
    clock.stop(Duration::ZERO).await;
}

async fn a_frozen_instance_can_be_stopped(executor: &dyn Executor, functions: &Functions) {
    for grace in [Duration::ZERO, Duration::from_millis(200)] {
        let (instance, _) = start(executor, &functions.echo).await;
        let _ = instance.freeze();
        instance.stop(grace).await;
        instance.gone().await;
        assert!(instance.thaw().is_err(), "what is gone cannot be thawed");
    }
}

async fn a_start_that_fails_says_how(executor: &dyn Executor, functions: &Functions) {
    let spec = Arc::new(functions.never_starts.clone());
    match executor.start(spec, "stream".into(), Arc::new(Lines::default())).await {
        Err(Unready { failure: StartFailure::Exited(exit), phases, .. }) => {
            assert_eq!(exit, crate::Exit::Status(4));
            assert!(phases.whole() > Duration::ZERO, "it took time until then: {phases:?}");
        }
        Err(unready) => panic!("{unready:?}"),
        Ok(_) => panic!("it ended before it was ready"),
    }
}

async fn a_start_has_a_time_limit(executor: &dyn Executor, functions: &Functions) {
    let spec = Arc::new(functions.hangs_before_ready.clone());
    match executor.start(spec, "stream".into(), Arc::new(Lines::default())).await {
        Err(Unready { failure: StartFailure::TimedOut, max_memory, phases }) => {
            assert!(max_memory.is_some_and(|used| used.0 > 0), "it was there, so it used memory");
            assert!(
                phases.whole() >= functions.hangs_before_ready.init_timeout,
                "all of its time: {phases:?}"
            );
        }
        Err(unready) => panic!("{unready:?}"),
        Ok(_) => panic!("it was never ready"),
    }
}
