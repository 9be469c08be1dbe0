//! The saved state of a graph's session.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::kernel::random::Random;
use crate::path::{Charges, Recall};
use crate::signal::{Flow, Mechanism};
use crate::{Error, ErrorKind, Result};

/// Version of the format of saved sessions. Version 1 did not record the model.
pub(super) const VERSION: u32 = 2;
/// Largest step of a saved session; steps are counted from there without overflow.
const STEPS: u64 = 1 << 53;

/// Everything of a graph's session except the mechanism: save it to continue later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionState {
    pub(super) version: u32,
    /// [`Mechanism::fingerprint`] of the model.
    pub(super) model: String,
    pub(super) flow: Flow,
    pub(super) random: Random,
    pub(super) recent: VecDeque<u32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) counts: BTreeMap<u32, u32>,
    pub(super) charges: Charges,
    #[serde(default, skip_serializing_if = "Recall::is_off")]
    pub(super) recall: Recall,
    pub(super) injected: BTreeMap<u32, f32>,
}

impl SessionState {
    /// Read a session that [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for other bytes; [`ErrorKind::Version`] for the session of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            version: Option<u32>,
            flow: Option<serde::de::IgnoredAny>,
        }
        let invalid =
            |error| Error::new(ErrorKind::Format, format!("not a saved session: {error}"));
        let head: Head = serde_json::from_slice(bytes).map_err(invalid)?;
        match (head.version, head.flow) {
            (Some(VERSION), _) => serde_json::from_slice(bytes).map_err(invalid),
            (None, None) => Err(Error::new(ErrorKind::Format, "not a saved session")),
            (found, _) => {
                let found = found.unwrap_or(1);
                let advice = if found < VERSION {
                    "generate it again: a session of version 1 does not name its model"
                } else {
                    "use the version of brillm that wrote it"
                };
                let what = format!(
                    "the saved session has version {found}, this program reads version {VERSION}"
                );
                Err(Error::new(ErrorKind::Version, what).advice(advice))
            }
        }
    }

    /// Write the session as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] if a number is not finite: JSON has no form for it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        if !self.is_finite() {
            return Err(Error::new(
                ErrorKind::Numeric,
                "the session cannot be written: one of its numbers is not finite",
            )
            .at(format!("step {}", self.flow.step))
            .advice("check the charges, the recall and the injected energies"));
        }
        serde_json::to_vec(self).map_err(|error| {
            Error::new(ErrorKind::Numeric, "the session cannot be written").because(error)
        })
    }

    /// Whether every number is finite.
    fn is_finite(&self) -> bool {
        let Flow {
            signal,
            output,
            blended,
            ..
        } = &self.flow;
        let mut values = signal.iter().chain(output).chain(blended);
        values.all(|value| value.is_finite())
            && self.flow.banks.iter().all(|value| value.is_finite())
            && self.flow.normaliser.is_finite()
            && self.injected.values().all(|energy| energy.is_finite())
            && self.charges.is_finite()
            && self.recall.is_finite()
    }

    /// Check that the state belongs to `mechanism`, and that no part of it is out of range.
    pub(super) fn check(&self, mechanism: &Mechanism) -> Result<()> {
        let model = mechanism.fingerprint();
        if self.model != model {
            return Err(Error::new(
                ErrorKind::Input,
                "the saved session belongs to another model",
            )
            .at(format!("fingerprint {}, not {model}", self.model))
            .advice("restore it with the model it was saved from"));
        }
        let (profile, flow) = (mechanism.profile(), &self.flow);
        let known = |&node: &u32| (node as usize) < mechanism.nodes();
        let whole = flow.signal.len() == profile.width
            && flow.output.len() == profile.width
            && flow.banks.len() == profile.memory()
            && flow.blended.len() == profile.carried()
            && self.is_finite()
            && flow.step <= STEPS
            && known(&flow.node)
            && flow.earlier.len() <= mechanism.graph().order() - 2
            && flow.earlier.iter().all(known)
            && self
                .recent
                .iter()
                .chain(self.injected.keys())
                .chain(self.counts.keys())
                .all(known)
            && self.counts.values().all(|&count| count < 1 << 31)
            && self.charges.fits(mechanism.nodes() as u32, STEPS)
            && self.recall.fits(mechanism.nodes() as u32, profile.width);
        if whole {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Format,
            "the saved session is damaged",
        ))
    }
}
