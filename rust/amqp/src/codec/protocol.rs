//! The eight bytes a client sends first (specification, section 4.2.2), and which a server sends back when they were not these.

/// What a client of AMQP 0-9-1 sends before its first frame: `AMQP`, 0, and the version.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// What a client of AMQP 0-9 sends. What such clients use of it is the same in 0-9-1, and RabbitMQ takes it for that too; some, such as
/// Perl's, speak 0-9-1 and send this.
pub const PROTOCOL_HEADER_0_9: [u8; 8] = *b"AMQP\x01\x01\x00\x09";

/// What the first bytes of a connection announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolHeader {
    /// [`PROTOCOL_HEADER`] or [`PROTOCOL_HEADER_0_9`]. Frames follow after its eight bytes.
    Amqp091,
    /// Anything else: another version of AMQP, or another protocol. The answer is [`PROTOCOL_HEADER`] and the end of the connection.
    Other,
}

/// Judges the first bytes of a connection. `None` while they are a proper prefix of one that is taken; a byte that cannot belong to it
/// answers [`ProtocolHeader::Other`] at once. Bytes behind the eighth are not looked at.
pub fn parse_protocol_header(bytes: &[u8]) -> Option<ProtocolHeader> {
    let taken = [PROTOCOL_HEADER, PROTOCOL_HEADER_0_9];
    if taken.iter().any(|header| bytes.starts_with(header)) {
        Some(ProtocolHeader::Amqp091)
    } else if taken.iter().any(|header| header.starts_with(bytes)) {
        None
    } else {
        Some(ProtocolHeader::Other)
    }
}
