//! The journal: pre-allocated segments, group commit, recovery.
