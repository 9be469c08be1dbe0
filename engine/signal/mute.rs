//! A step without the signal of one earlier token, as the engine computes it: the observation that tests an
//! attribution.

use super::attribution::Attribution;
use crate::kernel;
use crate::signal::composed::NodeRows;
use crate::signal::{EdgeForm, Flow, Mechanism, composed};
use crate::{Error, ErrorKind, Result};

impl Attribution {
    /// Remove the signal of the token at `position` from what leaves the flow's node, given the gates, and with layered
    /// edges given the scale of the read-out. The mechanism computes energies and logits of the returned flow, which
    /// must not hop further.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a position that left no signal; [`ErrorKind::Unsupported`] for residuals.
    pub fn mute(&self, mechanism: &Mechanism, flow: &Flow, position: usize) -> Result<Flow> {
        let profile = &mechanism.profile;
        if profile.residual.is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "edges with residuals read the signals of tokens a second time",
            ));
        }
        let Some(index) = self.past.iter().position(|past| past.position == position) else {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "position {position} left no signal in a path of {}",
                    self.positions
                ),
            ));
        };
        let past = &self.past[index];
        let mut muted = flow.clone();
        // The banks of the last layer, or all of them.
        let first = muted.banks.len() - past.weights.len();
        let banks = muted.banks[first..].iter_mut().zip(&past.weights);
        for (index, (bank, weight)) in banks.enumerate() {
            *bank -= weight * f64::from(past.signal[index % past.signal.len()]);
        }
        let latest = &self.past[self.past.len() - 1].signal;
        let mut signal = latest.clone();
        if index + 1 == self.past.len() {
            signal.fill(0.0);
        }
        let memory = muted.banks[first..].iter().map(|&m| (2.0 * m) as f32);
        let blended: Vec<f32> = signal.iter().copied().chain(memory).collect();
        match profile.form {
            EdgeForm::Own => {
                let banks: Vec<f32> = muted.banks.iter().map(|&m| m as f32).collect();
                let mix = mechanism.weights.values("blend.mix");
                kernel::own::output(mix, &signal, &banks, &mut muted.output);
            }
            EdgeForm::Composed => {
                let node = NodeRows::read(mechanism, flow.node);
                kernel::composed::output(
                    &composed::shared(mechanism),
                    |_| node.factors(),
                    &blended,
                    &mut vec![0.0; profile.width],
                    &mut vec![0.0; profile.rank],
                    &mut muted.output,
                );
            }
            EdgeForm::Layered => self.read_out_muted(mechanism, flow, &blended, &mut muted),
        }
        Ok(muted)
    }

    /// Compute h of layered edges from other inputs of the last layer's mix. `blended [X]`
    fn read_out_muted(
        &self,
        mechanism: &Mechanism,
        flow: &Flow,
        blended: &[f32],
        muted: &mut Flow,
    ) {
        let (profile, weights) = (&mechanism.profile, &mechanism.weights);
        let d = profile.width;
        let mix = weights.table("layer.mix");
        let last = (profile.layers - 1) * d;
        let (mut before, mut after) = (vec![0.0; d], vec![0.0; d]);
        mix.dots_from(last, &self.blended_now(flow), &mut before);
        mix.dots_from(last, blended, &mut after);
        let gain = weights.values("read.gain");
        let mut inverse = [0.0];
        let mut normal = vec![0.0; d];
        kernel::layered::normalise(&flow.signal, gain, 1.0, &mut inverse, &mut normal);
        for j in 0..d {
            let signal = flow.signal[j] + self.last_layer.1[j] * (after[j] - before[j]);
            normal[j] = gain[j] * signal * inverse[0];
        }
        weights.table("read.mix").dots(&normal, &mut muted.output);
        kernel::vector::add_scaled(1.0, weights.values("read.bias"), &mut muted.output);
    }

    /// Return `[c; 2 m]` of the last layer at the flow's node. `[X]`
    fn blended_now(&self, flow: &Flow) -> Vec<f32> {
        let latest = &self.past[self.past.len() - 1];
        let first = flow.banks.len() - latest.weights.len();
        let memory = flow.banks[first..].iter().map(|&m| (2.0 * m) as f32);
        latest.signal.iter().copied().chain(memory).collect()
    }
}
