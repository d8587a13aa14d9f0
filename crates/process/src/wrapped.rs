//! The transport of a managed runtime that the function's own wrapper starts: the wrapper may put an official runtime
//! client in the place of our bootstrap, as it may on Lambda. Both are served, and whoever speaks first is spoken to.

use crate::framed::Framed;
use crate::instance::{Process, Transport};
use crate::output::Output;
use crate::runtime_api::RuntimeApi;
use ports::{Exit, Invocation, InvokeResult, StartFailure, StreamSink};
use std::sync::Arc;
use tokio::task::AbortHandle;

/// Both ways to speak to a process; when it is ready, the one that it has chosen.
pub struct Wrapped {
    framed: Option<Framed>,
    api: Option<RuntimeApi>,
}

impl Wrapped {
    /// Nothing was heard yet.
    pub fn new(framed: Framed, api: RuntimeApi) -> Wrapped {
        Wrapped { framed: Some(framed), api: Some(api) }
    }
}

impl Transport for Wrapped {
    async fn ready(&mut self, process: &Process) -> Result<(), StartFailure> {
        let (Some(framed), Some(api)) = (&mut self.framed, &mut self.api) else { return Ok(()) };
        let ready = tokio::select! {
            biased;
            Ok(ready) = framed.first_word(process) => {
                self.api = None;
                return ready;
            }
            // Whoever starts a client need not pass our socket on: that it closed says nothing.
            ready = api.ready(process) => ready,
        };
        if let Err(StartFailure::Exited(_)) = ready
            && let Ok(ready) = framed.first_word(process).await
        {
            // The last word of a bootstrap that has ended.
            return ready;
        }
        self.framed = None;
        ready
    }

    async fn exchange(&self, process: &Process, invocation: Invocation, sink: StreamSink) -> InvokeResult {
        match (&self.framed, &self.api) {
            (Some(framed), _) => framed.exchange(process, invocation, sink).await,
            (None, Some(api)) => api.exchange(process, invocation, sink).await,
            (None, None) => InvokeResult::Exited(Exit::Unknown),
        }
    }

    fn listen(&self, output: &Arc<Output>) -> Option<AbortHandle> {
        self.framed.as_ref()?.listen(output)
    }

    fn hear_rest(&self, output: &Output) {
        if let Some(framed) = &self.framed {
            framed.hear_rest(output);
        }
    }
}
