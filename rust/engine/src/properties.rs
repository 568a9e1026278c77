//! Basic properties.
