//! consuming
