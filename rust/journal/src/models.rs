//! Loom models of the staging protocol and the bell.
