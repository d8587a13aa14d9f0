//! Function URLs: plain HTTP in, an event to the function, HTTP out.

pub mod cors; //    pages of other origins
pub mod event; //   request → event
pub mod prelude; // the head of a streamed answer
pub mod reply; //   answer → response
