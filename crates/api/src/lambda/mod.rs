//! Lambda's API.

pub mod input; // members of a request's JSON
pub mod name; //  the ways to name a function
