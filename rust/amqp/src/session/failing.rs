//! Errors: what a refusal does to its channel or connection, in which number and words.
//!
//! Method handlers return a [`Failure`]. Its kind says whether the channel or the connection ends; the method at fault is
//! the one that was being worked off.

use wherry_session::{Failure, FailureKind};

use crate::codec::ReplyCode;

/// The reply code of a kind of failure.
pub(super) fn reply_code(kind: FailureKind) -> ReplyCode {
    match kind {
        FailureKind::NotFound => ReplyCode::NotFound,
        FailureKind::AccessRefused => ReplyCode::AccessRefused,
        FailureKind::ResourceLocked => ReplyCode::ResourceLocked,
        FailureKind::PreconditionFailed => ReplyCode::PreconditionFailed,
        FailureKind::ContentTooLarge => ReplyCode::ContentTooLarge,
        FailureKind::NotAllowed => ReplyCode::NotAllowed,
        FailureKind::NotImplemented => ReplyCode::NotImplemented,
        FailureKind::ResourceError => ReplyCode::ResourceError,
        FailureKind::SyntaxError => ReplyCode::SyntaxError,
        FailureKind::CommandInvalid => ReplyCode::CommandInvalid,
        FailureKind::ChannelError => ReplyCode::ChannelError,
        FailureKind::UnexpectedFrame => ReplyCode::UnexpectedFrame,
        FailureKind::FrameError => ReplyCode::FrameError,
        FailureKind::InvalidPath => ReplyCode::InvalidPath,
        FailureKind::ConnectionForced => ReplyCode::ConnectionForced,
        FailureKind::InternalError => ReplyCode::InternalError,
    }
}

/// `NOT_FOUND - no queue 'q' in vhost '/'`, as RabbitMQ writes it.
pub(super) fn reply_text(failure: &Failure) -> String {
    let text = format!("{} - {}", reply_code(failure.kind).name(), failure.text);
    super::output::short(&text).into_owned()
}

macro_rules! shorthands {
    ($($(#[$doc:meta])* $name:ident: $kind:ident;)*) => {
        $($(#[$doc])*
        pub(super) fn $name(text: impl Into<String>) -> Failure {
            Failure::new(FailureKind::$kind, text)
        })*
    };
}

shorthands! {
    not_found: NotFound;
    access_refused: AccessRefused;
    resource_locked: ResourceLocked;
    precondition_failed: PreconditionFailed;
    not_allowed: NotAllowed;
    not_implemented: NotImplemented;
    resource_error: ResourceError;
    command_invalid: CommandInvalid;
    channel_error: ChannelError;
    unexpected_frame: UnexpectedFrame;
    frame_error: FrameError;
    internal_error: InternalError;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_codes_agree_on_what_ends() {
        for kind in [
            FailureKind::NotFound,
            FailureKind::AccessRefused,
            FailureKind::ResourceLocked,
            FailureKind::PreconditionFailed,
            FailureKind::ContentTooLarge,
            FailureKind::NotAllowed,
            FailureKind::NotImplemented,
            FailureKind::ResourceError,
            FailureKind::SyntaxError,
            FailureKind::CommandInvalid,
            FailureKind::ChannelError,
            FailureKind::UnexpectedFrame,
            FailureKind::FrameError,
            FailureKind::InvalidPath,
            FailureKind::ConnectionForced,
            FailureKind::InternalError,
        ] {
            assert_eq!(
                kind.ends_connection(),
                reply_code(kind).is_hard(),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn texts_have_the_name_first_and_fit_a_short_string() {
        let failure = not_found("no queue 'q' in vhost '/'");
        assert_eq!(
            reply_text(&failure),
            "NOT_FOUND - no queue 'q' in vhost '/'"
        );
        assert_eq!(reply_text(&not_found("x".repeat(300))).len(), 255);
    }
}
