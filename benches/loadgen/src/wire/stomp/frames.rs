//! The few frames of STOMP 1.1 that a load generator needs: writing requests, scanning what comes back.
//!
//! Rules: the STOMP 1.1 specification. Not promised: a full check of what the server sends; headers that the load does not
//! need are stepped over. Values are compared and sent back as they came, escaped or not.

use memchr::memchr;

use crate::link::Malformed;

/// Longest command and headers of a frame; a server that sends no end would fill the memory.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// As the largest body that is sent, with room.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Receipts of messages are their numbers, padded, so that all frames have one length. Runs are shorter than 10^12 messages.
pub(crate) const RECEIPT_DIGITS: usize = 12;

/// A frame in a buffer of received bytes, with the headers that matter here; those it does not have are empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) command: &'a [u8],
    pub(crate) subscription: &'a [u8],
    pub(crate) message_id: &'a [u8],
    pub(crate) receipt_id: &'a [u8],
    pub(crate) message: &'a [u8],
    pub(crate) redelivered: bool,
    pub(crate) body: &'a [u8],
}

impl Frame<'_> {
    /// Of a receipt for a message: the message's number.
    #[inline]
    pub(crate) fn receipt_number(&self) -> Option<u64> {
        if self.command != b"RECEIPT" || self.receipt_id.len() != RECEIPT_DIGITS {
            return None;
        }
        self.receipt_id.iter().try_fold(0u64, |number, digit| {
            let digit = u64::from(digit.wrapping_sub(b'0'));
            (digit < 10).then_some(number * 10 + digit)
        })
    }
}

/// The frame at the beginning of `bytes` and its length, or None while it is not whole. The ends of line that servers send
/// between frames, and as heart-beats, count as a part of the frame behind them.
#[inline]
pub(crate) fn cut(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Malformed> {
    let blank = bytes
        .iter()
        .take_while(|&&byte| byte == b'\n' || byte == b'\r')
        .count();
    let mut at = blank;
    let mut frame = Frame::default();
    let mut content_length = None;
    loop {
        let Some(end) = memchr(b'\n', &bytes[at..]) else {
            if bytes.len() - blank > HEAD_BYTES_MAX {
                return Err(Malformed("a command with headers over 64 KiB"));
            }
            return Ok(None);
        };
        let line = &bytes[at..at + end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        at += end + 1;
        if line.is_empty() {
            break;
        }
        if frame.command.is_empty() {
            frame.command = line;
            continue;
        }
        let Some(colon) = memchr(b':', line) else {
            return Err(Malformed("a header without a colon"));
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        // Of headers that come twice the first counts.
        let once = |place: &mut &'_ [u8]| place.is_empty();
        match name {
            b"subscription" if once(&mut frame.subscription) => frame.subscription = value,
            b"message-id" if once(&mut frame.message_id) => frame.message_id = value,
            b"receipt-id" if once(&mut frame.receipt_id) => frame.receipt_id = value,
            b"message" if once(&mut frame.message) => frame.message = value,
            b"redelivered" => frame.redelivered |= value == b"true",
            b"content-length" if content_length.is_none() => content_length = Some(length(value)?),
            _ => {}
        }
    }
    let end = match content_length {
        Some(length) => at + length,
        None => match memchr(0, &bytes[at..]) {
            Some(length) => at + length,
            None if bytes.len() - at > BODY_BYTES_MAX => {
                return Err(Malformed("a body without an end"));
            }
            None => return Ok(None),
        },
    };
    match bytes.get(end) {
        None => Ok(None),
        Some(0) => {
            frame.body = &bytes[at..end];
            Ok(Some((frame, end + 1)))
        }
        Some(_) => Err(Malformed("no NUL where the frame ends")),
    }
}

#[inline]
fn length(digits: &[u8]) -> Result<usize, Malformed> {
    let wrong = Malformed("a content-length that is no number or too large");
    let mut length = 0;
    for digit in digits {
        let digit = usize::from(digit.wrapping_sub(b'0'));
        length = length * 10 + digit;
        if digit > 9 || length > BODY_BYTES_MAX {
            return Err(wrong);
        }
    }
    if digits.is_empty() {
        return Err(wrong);
    }
    Ok(length)
}

/// Appends the command.
pub(crate) fn head(out: &mut Vec<u8>, command: &str) {
    out.extend_from_slice(command.as_bytes());
    out.push(b'\n');
}

/// Appends a header, escaped.
pub(crate) fn header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    for &byte in value.as_bytes() {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b':' => out.extend_from_slice(b"\\c"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            _ => out.push(byte),
        }
    }
    out.push(b'\n');
}

/// Appends a header whose value goes out as it is.
pub(crate) fn plain_header(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Ends the headers and appends the body.
pub(crate) fn end(out: &mut Vec<u8>, body: &[u8]) {
    out.push(b'\n');
    out.extend_from_slice(body);
    out.push(0);
}

/// Writes the number of a message into the receipt that it asks for, if it does.
#[inline]
pub(crate) fn number(frame: &mut [u8], body_at: usize, sequence: u64) {
    const NAME: &[u8] = b"\nreceipt:";
    // The blank line and the end of the receipt's line stand between the digits and the body.
    let digits_at = body_at - 2 - RECEIPT_DIGITS;
    if digits_at < NAME.len() || &frame[digits_at - NAME.len()..digits_at] != NAME {
        return;
    }
    let mut rest = sequence;
    for digit in frame[digits_at..digits_at + RECEIPT_DIGITS]
        .iter_mut()
        .rev()
    {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// Appends ACK.
#[inline]
pub(crate) fn ack(out: &mut Vec<u8>, subscription: u32, message_id: &[u8]) {
    out.extend_from_slice(b"ACK\nsubscription:");
    out.extend_from_slice(subscription.to_string().as_bytes());
    out.push(b'\n');
    plain_header(out, "message-id", message_id);
    end(out, b"");
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] =
        b"\n\r\nMESSAGE\nsubscription:7\nmessage-id:T_7@@x\\c@@1\nredelivered:true\nother:a:b\n\
        content-length:4\n\na\0b\n\0";

    #[test]
    fn a_message_is_found_only_when_it_is_whole() {
        for end in 0..MESSAGE.len() {
            assert_eq!(cut(&MESSAGE[..end]), Ok(None), "{end} bytes");
        }
        let (frame, length) = cut(MESSAGE).expect("a frame").expect("whole");
        assert_eq!(length, MESSAGE.len());
        let expected = Frame {
            command: b"MESSAGE",
            subscription: b"7",
            message_id: b"T_7@@x\\c@@1",
            redelivered: true,
            body: b"a\0b\n",
            ..Frame::default()
        };
        assert_eq!(frame, expected);
    }

    #[test]
    fn without_a_length_the_body_ends_at_nul() {
        let (frame, length) = cut(b"ERROR\r\nmessage:no\r\n\r\nbody\0\n")
            .expect("a frame")
            .expect("whole");
        assert_eq!(
            (frame.message, frame.body, length),
            (&b"no"[..], &b"body"[..], 26)
        );
    }

    #[test]
    fn what_is_no_frame_is_told() {
        for bytes in [
            &b"MESSAGE\ncontent-length:1\n\nab\0"[..],
            b"MESSAGE\ncontent-length:-1\n\na\0",
            b"MESSAGE\ncontent-length:\n\na\0",
            b"MESSAGE\ncontent-length:99999999999999999999\n\na\0",
            b"MESSAGE\nno colon\n\n\0",
            &[b'a'; HEAD_BYTES_MAX + 1],
        ] {
            assert!(
                cut(bytes).is_err(),
                "{}",
                String::from_utf8_lossy(&bytes[..40.min(bytes.len())])
            );
        }
    }

    #[test]
    fn of_a_header_twice_the_first_counts() {
        let (frame, _) = cut(b"RECEIPT\nreceipt-id:000000000012\nreceipt-id:x\n\n\0")
            .expect("a frame")
            .expect("whole");
        assert_eq!(frame.receipt_number(), Some(12));
    }

    #[test]
    fn a_message_has_its_number_in_its_receipt() {
        let mut out = Vec::new();
        head(&mut out, "SEND");
        plain_header(&mut out, "receipt", &[b'0'; RECEIPT_DIGITS]);
        end(&mut out, b"body");
        let body_at = out.len() - 5;
        number(&mut out, body_at, 120_034);
        assert_eq!(out, b"SEND\nreceipt:000000120034\n\nbody\0");
        let mut without = b"SEND\nx:000000000000\n\nbody\0".to_vec();
        let body_at = without.len() - 5;
        number(&mut without, body_at, 7);
        assert_eq!(without, b"SEND\nx:000000000000\n\nbody\0");
    }

    #[test]
    fn a_header_is_escaped() {
        let mut out = Vec::new();
        header(&mut out, "destination", "/queue/a:b\\c\nd");
        assert_eq!(out, b"destination:/queue/a\\cb\\\\c\\nd\n");
    }
}
