//! Failures of work that ranks divide: all of them meet the same one.

use serde::{Deserialize, Serialize};

use super::{Call, Ranks};
use crate::{Error, ErrorKind, Result};

/// An error as it travels, without its cause.
#[derive(Deserialize, Serialize)]
struct Sent {
    kind: String,
    what: String,
    location: Option<String>,
    advice: Option<String>,
}

impl Sent {
    fn of(error: &Error) -> Self {
        let parts = error.parts();
        Self {
            kind: error.kind().name().into(),
            what: parts.what.into(),
            location: parts.location,
            advice: parts.advice.map(String::from),
        }
    }

    fn error(self) -> Error {
        let kinds = ErrorKind::ALL.iter().copied();
        let kind = kinds.into_iter().find(|kind| kind.name() == self.kind);
        let mut error = Error::new(kind.unwrap_or(ErrorKind::Resource), self.what);
        if let Some(location) = self.location {
            error = error.at(location);
        }
        match self.advice {
            Some(advice) => error.advice(advice),
            None => error,
        }
    }
}

/// Write an error, without its cause, for another rank.
pub(crate) fn to_bytes(error: &Error) -> Vec<u8> {
    serde_json::to_vec(&Sent::of(error)).unwrap_or_default()
}

/// Read what [`to_bytes`] wrote.
pub(crate) fn from_bytes(bytes: &[u8]) -> Error {
    match serde_json::from_slice::<Sent>(bytes) {
        Ok(sent) => sent.error(),
        Err(error) => {
            let what = "a rank sent an error that cannot be read";
            Error::new(ErrorKind::Resource, what).because(error)
        }
    }
}

/// Return, on every rank, the failure with the lowest number, where any rank has one: `mine` is the number of the failed item
/// and its error. Ranks may take any time to arrive.
///
/// # Errors
/// That failure; those of an exchange.
pub fn agree_on_failure(ranks: &dyn Ranks, mine: Option<(usize, Error)>) -> Result<()> {
    let sent = mine.as_ref().map(|(item, error)| (*item, Sent::of(error)));
    let sent = serde_json::to_vec(&sent).unwrap_or_default();
    let all = ranks.gather(Call::unwatched("failures"), &sent)?;
    let all = all
        .iter()
        .map(|one| serde_json::from_slice::<Option<(usize, Sent)>>(one).unwrap_or_default());
    let first = all.zip(0..).filter_map(|(failure, rank)| {
        let (item, sent) = failure?;
        Some((item, rank, sent))
    });
    match first.min_by_key(|&(item, rank, _)| (item, rank)) {
        None => Ok(()),
        Some((_, rank, sent)) => match mine {
            // With its cause.
            Some((_, error)) if rank == ranks.rank() => Err(error),
            _ => Err(sent.error()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::OneProcess;

    #[test]
    fn an_error_keeps_its_kind_and_message() {
        for &kind in &ErrorKind::ALL {
            let error = Error::new(kind, "wrong").at("b").at("a").advice("fix it");
            let read = from_bytes(&to_bytes(&error));
            assert_eq!(read.kind(), kind);
            assert_eq!(read.to_string(), error.to_string());
            let plain = Error::new(kind, "wrong");
            let read = from_bytes(&to_bytes(&plain));
            assert_eq!(read.to_string(), plain.to_string());
        }
        assert_eq!(from_bytes(b"{").kind(), ErrorKind::Resource);
    }

    #[test]
    fn one_process_meets_its_own_failure() {
        agree_on_failure(&OneProcess, None).unwrap();
        let failure = Some((3, Error::new(ErrorKind::Input, "no")));
        let error = agree_on_failure(&OneProcess, failure).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::Input, "no".into())
        );
    }
}
