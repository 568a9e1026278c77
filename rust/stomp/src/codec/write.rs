//! Writes frames.
//!
//! A frame is written in one go: [`write_head`], headers, then [`write_body`] or [`write_end`], which end the frame. Behind it
//! stands a line end, as RabbitMQ puts it there: frames are lines for whoever reads them on a terminal.

use super::escape::Escapes;
use super::scan::plain_name;

/// Begins a frame.
#[inline]
pub fn write_head(command: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(command.as_bytes());
    out.push(b'\n');
}

/// A header whose name and value need no escaping: the protocol's own words.
#[inline]
pub fn write_text_header(name: &str, value: &str, out: &mut Vec<u8>) {
    debug_assert!(Escapes::None.can_write(value.as_bytes()), "{name}:{value}");
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

/// Whether a header can be written. In 1.0 a name with a colon would become another one.
pub fn header_fits(name: &[u8], value: &[u8], escapes: Escapes) -> bool {
    !name.is_empty()
        && escapes.can_write(name)
        && escapes.can_write(value)
        && (escapes != Escapes::None || memchr::memchr(b':', name).is_none())
}

/// A header with any name and value, which are escaped. False, and nothing is written: it cannot be said in this version.
#[inline]
pub fn write_header(name: &[u8], value: &[u8], escapes: Escapes, out: &mut Vec<u8>) -> bool {
    if !name.is_empty() && is_plain(name) {
        return write_value(name, value, escapes, out);
    }
    if !header_fits(name, value, escapes) {
        return false;
    }
    escapes.write(name, out);
    out.push(b':');
    escapes.write(value, out);
    out.push(b'\n');
    true
}

/// As [`write_header`] for a name that needs no escaping: one of the protocol's own, or looked at before.
#[inline]
pub fn write_value(name: &[u8], value: &[u8], escapes: Escapes, out: &mut Vec<u8>) -> bool {
    debug_assert!(!name.is_empty() && is_plain(name), "{name:?}");
    let as_it_is = is_plain(value);
    if !as_it_is && !escapes.can_write(value) {
        return false;
    }
    out.reserve(name.len() + value.len() + 2);
    out.extend_from_slice(name);
    out.push(b':');
    if as_it_is {
        out.extend_from_slice(value);
    } else {
        escapes.write(value, out);
    }
    out.push(b'\n');
    true
}

/// Whether a text is written as it is in every version.
#[inline]
fn is_plain(text: &[u8]) -> bool {
    plain_name(text) == text.len()
}

/// A number in decimal digits.
#[inline]
pub fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The end of a frame without a body.
#[inline]
pub fn write_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\n\0\n");
}

/// `content-length`, the end of the head, the body and the end of the frame.
#[inline]
pub fn write_body(body: &[u8], out: &mut Vec<u8>) {
    out.reserve(body.len() + 40);
    out.extend_from_slice(b"content-length:");
    write_number(body.len() as u64, out);
    out.extend_from_slice(b"\n\n");
    out.extend_from_slice(body);
    out.extend_from_slice(b"\0\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_written_line_by_line() {
        let mut out = Vec::new();
        write_head("MESSAGE", &mut out);
        write_text_header("redelivered", "false", &mut out);
        assert!(write_header(b"a:b", b"c\nd", Escapes::V1_1, &mut out));
        assert!(!write_header(b"a", b"c\rd", Escapes::V1_1, &mut out));
        assert!(!write_header(b"a:b", b"c", Escapes::None, &mut out));
        assert!(!write_header(b"", b"c", Escapes::V1_2, &mut out));
        write_body(b"x\0y", &mut out);
        assert_eq!(
            out,
            b"MESSAGE\nredelivered:false\na\\cb:c\\nd\ncontent-length:3\n\nx\0y\0\n"
        );
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 12_345, u64::MAX] {
            let mut out = Vec::new();
            write_number(number, &mut out);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
