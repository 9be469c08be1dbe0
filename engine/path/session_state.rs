//! What a session is at a moment: saved, it goes on later.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::kernel::random::Random;
use crate::path::Charges;
use crate::signal::Flow;

/// Everything a session is, besides the mechanism it flows through: save it, and go on later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionState {
    pub(super) flow: Flow,
    pub(super) random: Random,
    pub(super) recent: VecDeque<u32>,
    pub(super) charges: Charges,
    pub(super) injected: BTreeMap<u32, f32>,
}
