//! Logits: the numbers whose softmax over all V targets is the distribution of the next token.
//!
//! ```text
//! s_t = α E_t + ρ_t − w_u (R_t − Σ lift_t)                    own edges
//! s_t = α (E_t − ‖h‖² − ‖β_t‖²) + ρ_t − w_u (R_t − Σ lift_t)  composed edges
//! ```
//!
//! with energies E, target biases ρ, and the static resistances of the counts: `R_t = −ln p₁(t)`, and lifts `≥ 0`: how
//! far the log probability of an edge u→t of the graph exceeds that of an edge without counts, and how far each longer
//! walk that ends at u raises it further ([`PathGraph`](crate::graph::PathGraph)).

use crate::kernel::real::Real;

/// Everything in a logit besides the energy, for one source u.
#[derive(Clone, Copy)]
pub struct Static<'a, R> {
    /// `ρ [V]`; empty for none.
    pub bias: &'a [R],
    /// `w_u`.
    pub prior_weight: R,
    /// `R [V]`; empty without static resistances.
    pub resistance: &'a [R],
}

impl<R: Real> Static<'_, R> {
    /// Add biases and static resistances to all logits. `lifts` yields targets with
    /// their lifts, each target any number of times. `logits [V]`
    pub fn add(&self, lifts: impl Iterator<Item = (u32, R)>, logits: &mut [R]) {
        for (logit, &bias) in logits.iter_mut().zip(self.bias) {
            *logit += bias;
        }
        if self.resistance.is_empty() {
            return;
        }
        for (logit, &resistance) in logits.iter_mut().zip(self.resistance) {
            *logit -= self.prior_weight * resistance;
        }
        for (target, lift) in lifts {
            logits[target as usize] += self.prior_weight * lift;
        }
    }

    /// Return the same for one target, given the sum of its lifts.
    pub fn of(&self, target: u32, lift: R) -> R {
        let at = |values: &[R]| values.get(target as usize).copied().unwrap_or(R::zero());
        at(self.bias) - self.prior_weight * (at(self.resistance) - lift)
    }

    /// Return the gradient of `w_u`, given that of the logits. `d_logits [V]`
    pub fn backward(&self, lifts: impl Iterator<Item = (u32, R)>, d_logits: &[R]) -> R {
        if self.resistance.is_empty() {
            return R::zero();
        }
        lifts.fold(-R::dot(d_logits, self.resistance), |sum, (target, lift)| {
            sum + d_logits[target as usize] * lift
        })
    }
}

/// Turn energies into `α E`. `[V]`, `[V]`
pub fn own<R: Real>(alpha: R, energies: &[R], logits: &mut [R]) {
    for (logit, &energy) in logits.iter_mut().zip(energies) {
        *logit = alpha * energy;
    }
}

/// Turn energies into `α (E − ‖β‖² − ‖h‖²)`: small numbers, of which less is lost in f32. `norm2` holds ‖β_t‖². `[V]`
pub fn composed<R: Real>(alpha: R, output: &[R], norm2: &[R], energies: &[R], logits: &mut [R]) {
    let square: R = output.iter().map(|&value| value * value).sum();
    for ((logit, &energy), &norm2) in logits.iter_mut().zip(energies).zip(norm2) {
        *logit = alpha * (energy - norm2 - square);
    }
}

/// Return the negative log-likelihood of `target`; with `scale`, turn the logits into its gradient times that.
///
/// `∂(−ln p_target) / ∂s_t = p_t − [t = target]`.
pub fn cross_entropy<R: Real>(logits: &mut [R], target: usize, scale: Option<R>) -> f64 {
    let reached = logits[target].wide();
    let nats = R::softmax(logits) - reached;
    if let Some(scale) = scale {
        logits[target] -= R::one();
        R::scale(scale, logits);
    }
    nats
}
