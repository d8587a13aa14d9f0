//! Streamed answers whose instance ends at once: an executor that lets the head and the end be noticed together.

mod processes;

use bytes::Bytes;
use model::MiB;
use node::invoke::Reply;
use policy::keepalive::Config;
use ports::{
    BoxFuture, Completion, Executor, Exit, Instance, InstanceSpec, Invocation, InvokeResult, LogSink, Phases,
    Started, StreamReply, StreamSink, Unready,
};
use processes::{World, request, text};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Its instances begin a stream and are lost, without a moment in between.
struct Abrupt;

impl Executor for Abrupt {
    fn start(
        &self,
        _: Arc<InstanceSpec>,
        _: Arc<str>,
        _: Arc<dyn LogSink>,
    ) -> BoxFuture<'_, Result<Started, Unready>> {
        let instance: Arc<dyn Instance> = Arc::new(Abrupt);
        let started = Started { instance, phases: Phases::default() };
        Box::pin(std::future::ready(Ok(started)))
    }

    fn check(&self, _: &str, _: Option<&Path>) -> Result<(), String> {
        Ok(())
    }
}

impl Instance for Abrupt {
    fn invoke(&self, _: Invocation, stream: StreamSink) -> BoxFuture<'_, Completion> {
        Box::pin(async {
            let (sender, chunks) = tokio::sync::mpsc::channel(1);
            sender.try_send(Ok(Bytes::from_static(b"half"))).expect("there is room");
            let _ = stream.send(StreamReply::Chunks { content_type: "text/plain".into(), chunks });
            Completion {
                result: InvokeResult::Exited(Exit::Status(3)),
                duration: Duration::from_millis(1),
                reusable: false,
                max_memory: None,
            }
        })
    }

    fn memory(&self) -> Option<MiB> {
        Some(MiB(1))
    }

    fn gone(&self) -> BoxFuture<'_, Exit> {
        Box::pin(std::future::pending())
    }

    fn stop(&self, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test]
async fn a_stream_that_broke_off_before_its_head_was_noticed_is_begun_and_told_to_have_broken_off() {
    let dir = tempfile::tempdir().expect("a folder");
    let world = World::over(Arc::new(Abrupt), dir, Config::fixed(Duration::from_secs(60)));
    let function = world.function("abrupt", "provided.al2023", "unused", &[("bootstrap", "")]);
    let invoked = world.node.invoke(function, request("{}")).await.expect("it runs");
    let Reply::Stream(StreamReply::Chunks { mut chunks, .. }) = invoked.reply else {
        panic!("what was written is lost");
    };
    assert_eq!(chunks.recv().await, Some(Ok(Bytes::from_static(b"half"))));
    let ending = invoked.ending.expect("a stream has one").await.expect("it is told");
    let error = text(&ending.error.expect("it broke off"));
    assert!(error.contains("Runtime.ExitError") && error.contains("exit status 3"), "{error}");
}
