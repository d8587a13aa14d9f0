//! Deterministic simulator of policy under seeded workloads and faults.
