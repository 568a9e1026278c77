//! What goes wrong, as the peer is told: an ERROR frame, behind which the connection ends.
//!
//! The specifications demand that end; RabbitMQ stays connected behind some errors. Texts are RabbitMQ's. What a peer sent is
//! shown in bodies only, cut and with control characters made visible, so that nobody can have a frame written for others.

use std::borrow::Cow;

use wherry_session::{Failure, FailureKind};

/// Characters of a peer's own words that are shown to it.
const SHOWN_MAX: usize = 256;

/// A refusal: the `message` header and the body of an ERROR frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) message: &'static str,
    pub(super) text: String,
    /// The subscription that is concerned.
    pub(super) subscription: Option<Box<str>>,
}

impl Refusal {
    pub(super) fn new(message: &'static str, text: impl Into<String>) -> Refusal {
        Refusal {
            message,
            text: text.into(),
            subscription: None,
        }
    }

    /// A header that must be there is not.
    pub(super) fn missing(command: &str, header: &str) -> Refusal {
        Refusal::new(
            "Missing header",
            format!("\"{command}\" must include the \"{header}\" header\n"),
        )
    }

    /// A header has a value that it cannot have.
    pub(super) fn invalid(header: &str, value: &str, expected: &str) -> Refusal {
        Refusal::new(
            "Invalid header",
            format!("'{}' is not a valid {header}: {expected}\n", shown(value)),
        )
    }
}

/// RabbitMQ's words for kinds of failures: as a header, and in front of the text.
fn words(kind: FailureKind) -> (&'static str, &'static str) {
    match kind {
        FailureKind::NotFound => ("not_found", "NOT_FOUND"),
        FailureKind::AccessRefused => ("access_refused", "ACCESS_REFUSED"),
        FailureKind::ResourceLocked => ("resource_locked", "RESOURCE_LOCKED"),
        FailureKind::PreconditionFailed => ("precondition_failed", "PRECONDITION_FAILED"),
        FailureKind::ContentTooLarge => ("content_too_large", "CONTENT_TOO_LARGE"),
        FailureKind::NotAllowed => ("not_allowed", "NOT_ALLOWED"),
        FailureKind::NotImplemented => ("not_implemented", "NOT_IMPLEMENTED"),
        FailureKind::ResourceError => ("resource_error", "RESOURCE_ERROR"),
        FailureKind::SyntaxError => ("syntax_error", "SYNTAX_ERROR"),
        FailureKind::CommandInvalid => ("command_invalid", "COMMAND_INVALID"),
        FailureKind::ChannelError => ("channel_error", "CHANNEL_ERROR"),
        FailureKind::UnexpectedFrame => ("unexpected_frame", "UNEXPECTED_FRAME"),
        FailureKind::FrameError => ("frame_error", "FRAME_ERROR"),
        FailureKind::InvalidPath => ("invalid_path", "INVALID_PATH"),
        FailureKind::ConnectionForced => ("connection_forced", "CONNECTION_FORCED"),
        FailureKind::InternalError => ("internal_error", "INTERNAL_ERROR"),
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        let (message, name) = words(failure.kind);
        Refusal::new(message, format!("{name} - {}", shown(&failure.text)))
    }
}

impl From<wherry_engine::Error> for Refusal {
    fn from(error: wherry_engine::Error) -> Refusal {
        Failure::from(error).into()
    }
}

/// A peer's words as they may be shown.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    if text.len() <= SHOWN_MAX && !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for letter in text.chars().take(SHOWN_MAX) {
        if letter.is_control() {
            out.extend(letter.escape_default());
        } else {
            out.push(letter);
        }
    }
    if text.chars().nth(SHOWN_MAX).is_some() {
        out.push_str("...");
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_rabbitmqs_words() {
        let failure = Failure::new(FailureKind::NotFound, "no queue 'q' in vhost '/'");
        let refusal = Refusal::from(failure);
        assert_eq!(refusal.message, "not_found");
        assert_eq!(refusal.text, "NOT_FOUND - no queue 'q' in vhost '/'");
    }

    #[test]
    fn what_a_peer_sent_is_cut_and_made_visible() {
        assert_eq!(shown("plain: ü"), "plain: ü");
        assert_eq!(shown("a\0b\nc"), "a\\u{0}b\\nc");
        assert_eq!(shown(&"x".repeat(1000)).len(), SHOWN_MAX + 3);
    }
}
