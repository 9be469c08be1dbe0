//! The margin between two targets of a step, split by what it comes from.
//!
//! Of composed and layered edges without residuals a logit is `2 α h·β_t` plus terms that do not depend on the signal
//! (see [`crate::kernel::logits`]), and h is the sum of the contributions of [`Attribution`]. So the margin
//!
//! ```text
//! s_c − s_a = Σ_j 2 α h_j·(β_c − β_a) + (ρ_c − ρ_a) − w_u (R_uc − R_ua)
//! ```
//!
//! is a sum in which the term of an earlier token is what the margin loses without that token's signal at this step,
//! given the gates.

use super::attribution::{Attribution, ContributionSource, EdgeAttribution};
use crate::Result;
use crate::signal::{EdgeForm, Flow, Mechanism};

/// What a part of a margin comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MarginSource {
    /// A contribution to the signal.
    Signal(ContributionSource),
    /// The target biases, `ρ_c − ρ_a`.
    TargetBias,
    /// The static resistances of the counts, `−w_u (R_uc − R_ua)`.
    StaticResistance,
}

/// The margin of a chosen target over an alternative.
#[derive(Clone, Debug, PartialEq)]
pub struct Margin {
    /// The chosen target.
    pub chosen: u32,
    /// The target it is compared with.
    pub alternative: u32,
    /// The logit of the chosen target less that of the alternative, as the engine computes them.
    pub value: f64,
    /// The parts; they add up to the value, but for rounding.
    pub terms: Vec<(MarginSource, f64)>,
    /// Whether the margin is linear in every contribution: then a term is what the margin loses without it. It is over
    /// composed and layered edges without residuals. Over own edges, and those with residuals, terms are projections
    /// onto the pre-activations, which add up too, but a margin without one differs from the rest.
    pub linear: bool,
}

impl Attribution {
    /// Split the margin of the edge from the flow's node to `chosen` over the edge to `alternative`. `logits [V]` are
    /// those that the mechanism computes for the flow.
    ///
    /// # Errors
    /// As [`Self::split`].
    ///
    /// # Complexity
    /// That of two calls of [`Self::split`].
    pub fn margin(
        &self,
        mechanism: &Mechanism,
        flow: &Flow,
        logits: &[f32],
        (chosen, alternative): (u32, u32),
    ) -> Result<Margin> {
        let (split, other) = (
            self.split(mechanism, flow, chosen)?,
            self.split(mechanism, flow, alternative)?,
        );
        let logit = |target: u32| f64::from(logits[target as usize]);
        let fixed = |target| mechanism.fixed_parts(flow.node, &flow.earlier, target);
        let (of_chosen, of_other) = (fixed(chosen), fixed(alternative));
        let reached = (
            logit(chosen) - of_chosen.0 - of_chosen.1,
            logit(alternative) - of_other.0 - of_other.1,
        );
        let mut parts_of = parts(mechanism, &split, reached.0);
        for (source, part) in parts(mechanism, &other, reached.1) {
            // An edge with a residual has a bias, which another may lack.
            match parts_of.iter_mut().find(|one| one.0 == source) {
                Some(one) => one.1 -= part,
                None => parts_of.push((source, -part)),
            }
        }
        let terms = parts_of.into_iter();
        let mut terms: Vec<_> = terms
            .map(|(source, part)| (MarginSource::Signal(source), part))
            .collect();
        terms.push((MarginSource::TargetBias, of_chosen.0 - of_other.0));
        terms.push((MarginSource::StaticResistance, of_chosen.1 - of_other.1));
        Ok(Margin {
            chosen,
            alternative,
            value: logit(chosen) - logit(alternative),
            terms,
            linear: mechanism.profile.form != EdgeForm::Own && mechanism.profile.residual.is_none(),
        })
    }
}

impl Mechanism {
    /// Compute the parts of a logit that do not depend on the signal at `node`, after the nodes `earlier`, the last one
    /// nearest: the target bias, and the static resistance of the counts with its sign.
    pub(crate) fn fixed_parts(&self, node: u32, earlier: &[u32], target: u32) -> (f64, f64) {
        let fixed = self.fixed(node);
        let lifts = self.graph.lifts(node, earlier, self.order());
        let lift: f32 = lifts.filter(|one| one.0 == target).map(|one| one.1).sum();
        let at = |values: &[f32]| values.get(target as usize).copied().unwrap_or(0.0);
        let counts = match fixed.resistance {
            [] => 0.0,
            resistance => -f64::from(fixed.prior_weight) * f64::from(at(resistance) - lift),
        };
        (f64::from(at(fixed.bias)), counts)
    }
}

/// Split what the energy adds to a logit, by contribution.
///
/// A sum over the same contributions for every target, so that two targets can be subtracted. `reached` is the logit
/// less its fixed part.
fn parts(
    mechanism: &Mechanism,
    split: &EdgeAttribution,
    reached: f64,
) -> Vec<(ContributionSource, f64)> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let z: Vec<f64> = split.preactivation.iter().map(|&z| f64::from(z)).collect();
    let along = |direction: &[f64]| -> Vec<(ContributionSource, f64)> {
        let contributions = split.contributions.iter();
        contributions
            .map(|one| (one.source, dot(&one.vector, direction)))
            .collect()
    };
    if mechanism.profile.form == EdgeForm::Own || mechanism.profile.residual.is_some() {
        // Projections onto z add up to ‖z‖²; scaled, to the energy's part of the logit.
        let square = dot(&z, &z);
        let scale = if square > 0.0 { reached / square } else { 0.0 };
        let scaled = along(&z).into_iter();
        return scaled
            .map(|(source, part)| (source, scale * part))
            .collect();
    }
    // 2 α h_j·β: the target's own factor is the direction, and no part of h.
    let alpha = f64::from(mechanism.alpha());
    let beta = mechanism.weights.row("node.target", split.target as usize);
    let direction: Vec<f64> = beta.iter().map(|&b| 2.0 * alpha * f64::from(b)).collect();
    along(&direction)
        .into_iter()
        .filter(|(source, _)| *source != ContributionSource::Target)
        .collect()
}
