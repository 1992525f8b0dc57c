//! What an error of librdkafka means.

use hutong_core::{Error, ErrorKind};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// Wraps an error of librdkafka with its kind and what was being done.
pub(super) fn failed(doing: impl Into<String>, error: KafkaError) -> Error {
    let kind = kind(&error);
    let wrapped = Error::caused(kind, doing, error);
    match kind {
        ErrorKind::Denied => wrapped.hint("give this principal the right on the topic, group or transactional id"),
        ErrorKind::PositionLost => wrapped.hint("what was there is trimmed: reload the subscription from the base"),
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
        // A record that the cluster will never take; the caller sets it aside.
        Code::MessageSizeTooLarge | Code::InvalidMessage => ErrorKind::Refused,
        _ => ErrorKind::Unavailable,
    }
}
