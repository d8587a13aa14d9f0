//! Every decision as a deterministic state machine: no I/O, no async, no clock, no randomness of its own.
