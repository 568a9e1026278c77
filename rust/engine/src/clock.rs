//! Real and virtual time.
