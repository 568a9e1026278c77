//! Binding tables.
