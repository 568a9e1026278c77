//! How large frames may be.

/// The numbers are the caller's; those of RabbitMQ are beside the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Bytes of a command. 32: the longest one has eleven, and nobody should wait for the end of another.
    pub command_bytes_max: usize,
    /// Headers of a frame. 100.
    pub headers_max: usize,
    /// Bytes of one header line. 100 KiB.
    pub header_bytes_max: usize,
    /// Bytes of command and headers together. 64 KiB before login, 4 MiB after it.
    pub head_bytes_max: usize,
    /// Bytes of a body. RabbitMQ counts it into the frame.
    pub body_bytes_max: usize,
}
