//! What an error of a call to ZooKeeper says of what the call did.
use splitbrain_core::Outcome;
use zookeeper_client::Error;

/// The table from an error to how the operation ended.
///
/// What a server refuses by rule it refuses before there is a transaction: the call has not happened and never will
/// (ZooKeeper Programmer's Guide, "Error handling"). A connection that was lost, a session that ended with requests
/// under way, a reply that makes no sense: the request may have been applied, or may still be. `MarshallingError` is
/// among the latter since a server also says it of what went wrong while a transaction was applied.
pub(crate) fn outcome(error: &Error) -> Outcome {
    let reason = error.to_string();
    match error {
        Error::NoNode
        | Error::NoAuth
        | Error::BadVersion
        | Error::NoChildrenForEphemerals
        | Error::NodeExists
        | Error::NotEmpty
        | Error::InvalidAcl
        | Error::SessionMoved
        | Error::NotReadOnly
        | Error::NoWatcher
        | Error::QuotaExceeded
        | Error::Throttled
        | Error::Unimplemented
        | Error::ReconfigDisabled
        | Error::BadArguments(_)
        | Error::NoHosts => Outcome::Fail(reason),
        Error::UnmarshalError { .. }
        | Error::Timeout
        | Error::UnexpectedError(_)
        | Error::SessionExpired
        | Error::AuthFailed
        | Error::MarshallingError
        | Error::ConnectionLoss
        | Error::UnexpectedErrorCode(_)
        | Error::ClientClosed
        | Error::RuntimeInconsistent
        | Error::Custom(_) => Outcome::Info(reason),
        // What a newer client may say: nobody knows.
        _ => Outcome::Info(reason),
    }
}

/// Whether the session is over, so that no repetition within it helps.
pub(crate) fn ends_session(error: &Error) -> bool {
    matches!(error, Error::SessionExpired | Error::AuthFailed | Error::ClientClosed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_server_refused_by_rule_or_never_got_has_failed() {
        let reason: &'static &'static str = &"x";
        let failed = [
            Error::NoNode,
            Error::NoAuth,
            Error::BadVersion,
            Error::NoChildrenForEphemerals,
            Error::NodeExists,
            Error::NotEmpty,
            Error::InvalidAcl,
            Error::SessionMoved,
            Error::NotReadOnly,
            Error::NoWatcher,
            Error::QuotaExceeded,
            Error::Throttled,
            Error::Unimplemented,
            Error::ReconfigDisabled,
            Error::BadArguments(reason),
            Error::NoHosts,
        ];
        for error in failed {
            assert_eq!(outcome(&error), Outcome::Fail(error.to_string()), "{error:?}");
        }
        // `Custom` has no constructor outside of its crate: it is what a lost connection says of itself.
        let unknown = [
            Error::UnmarshalError { entity: "x", reason },
            Error::Timeout,
            Error::UnexpectedError("x".to_string()),
            Error::SessionExpired,
            Error::AuthFailed,
            Error::MarshallingError,
            Error::ConnectionLoss,
            Error::UnexpectedErrorCode(-1),
            Error::ClientClosed,
            Error::RuntimeInconsistent,
        ];
        for error in unknown {
            assert_eq!(outcome(&error), Outcome::Info(error.to_string()), "{error:?}");
        }
    }
}
