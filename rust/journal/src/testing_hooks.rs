//! Where the tests break the journal on purpose.

/// Ways to break a journal, so that a test can show that it would notice. All off but in tests.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    not(feature = "testing"),
    expect(unreachable_pub, reason = "public for the tests only")
)]
pub struct Sabotage {
    /// Records are confirmed when they are written, before the sync.
    pub confirm_before_sync: bool,
    /// Payload checksums are not looked at when reading.
    pub skip_checksum: bool,
    /// After a failed sync, sync again and go on.
    pub retry_failed_sync: bool,
}
