//! What an error of librdkafka means.

use hutong_core::{Error, ErrorKind};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// Wraps an error of librdkafka with its kind and what was being done.
pub(super) fn failed(doing: impl Into<String>, error: KafkaError) -> Error {
    let (kind, error_code) = (kind(&error), error.rdkafka_error_code());
    let wrapped = Error::caused(kind, doing, error);
    match kind {
        ErrorKind::Denied => wrapped.hint("give this principal the right on the topic, group or transactional id"),
        ErrorKind::PositionLost => wrapped.hint(
            "what was there is trimmed: `hutong subscription reload NAME` reads it again from the base",
        ),
        // The writer says more when it knows that it was a pause.
        ErrorKind::Fenced => wrapped.hint(
            "another process has taken this lane: stop one of them, then start this one again; if there is none, \
             this process stood still for longer than a transaction may last, and a start is enough",
        ),
        ErrorKind::Config if error_code == Some(Code::MessageSizeTooLarge) => wrapped.hint(
            "the topic takes smaller records than Hutong makes: set its max.message.bytes to 16777216",
        ),
        _ => wrapped,
    }
}

fn kind(error: &KafkaError) -> ErrorKind {
    if let KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) = error {
        return ErrorKind::Config;
    }
    let Some(code) = error.rdkafka_error_code() else { return ErrorKind::Unavailable };
    match code {
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => ErrorKind::Fenced,
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::Authentication => ErrorKind::Denied,
        Code::OffsetOutOfRange | Code::AutoOffsetReset => ErrorKind::PositionLost,
        // No record of ours is larger than Hutong's own topics take: this topic takes less.
        Code::MessageSizeTooLarge => ErrorKind::Config,
        _ => ErrorKind::Unavailable,
    }
}
