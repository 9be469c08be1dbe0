//! The saved state of a graph's session.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::kernel::random::Random;
use crate::path::Charges;
use crate::signal::Flow;

/// Everything of a graph's session except the mechanism: save it to continue later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionState {
    pub(super) flow: Flow,
    pub(super) random: Random,
    pub(super) recent: VecDeque<u32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) counts: BTreeMap<u32, u32>,
    pub(super) charges: Charges,
    pub(super) injected: BTreeMap<u32, f32>,
}
