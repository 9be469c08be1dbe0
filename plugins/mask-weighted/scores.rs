//! The difficulty of each tag: a running mean of its losses.

use brillm_plugin::{MaskTokens, PluginError, Result};

/// Replaces a standard deviation of 0.
const LEAST: f64 = 1e-4;

/// Running means of losses, one per tag.
pub(crate) struct Scores {
    /// s_c, from 0.
    means: Vec<f64>,
    /// Steps in which each tag was masked.
    steps: Vec<u64>,
    memory: f64,
    corrected: bool,
}

impl Scores {
    pub fn new(tags: usize, memory: f64, corrected: bool) -> Self {
        Self {
            means: vec![0.0; tags],
            steps: vec![0; tags],
            memory,
            corrected,
        }
    }

    pub fn unknown(&self, tag: u32) -> PluginError {
        PluginError::new(format!(
            "there is a tag {tag}, but the option tags is {}",
            self.means.len()
        ))
    }

    /// Update: s_c ← m s_c + (1 − m) · mean loss of the masked tokens with tag c; absent tags do not change.
    pub fn learn(&mut self, tags: &[u32], losses: &[f32]) -> Result<()> {
        let mut sums = vec![(0.0, 0u64); self.means.len()];
        for (&tag, &loss) in tags.iter().zip(losses) {
            if tag == MaskTokens::UNTAGGED {
                continue;
            }
            if !loss.is_finite() {
                return Err(PluginError::new(format!(
                    "a loss is {loss}: training has diverged"
                )));
            }
            let (sum, count) = sums
                .get_mut(tag as usize)
                .ok_or_else(|| self.unknown(tag))?;
            *sum += f64::from(loss);
            *count += 1;
        }
        for (tag, (sum, count)) in sums.into_iter().enumerate().filter(|(_, sum)| sum.1 > 0) {
            let mean = sum / count as f64;
            self.means[tag] = self.memory * self.means[tag] + (1.0 - self.memory) * mean;
            self.steps[tag] += 1;
        }
        Ok(())
    }

    /// w_c = sigmoid(2 (s_c − mean) / std), std unbiased over the tags.
    pub fn weights(&self) -> Vec<f64> {
        let mut scores = self.means.clone();
        if self.corrected {
            let mut seen = Vec::new();
            for (score, &steps) in scores.iter_mut().zip(&self.steps) {
                if steps > 0 {
                    *score /= 1.0 - self.memory.powf(steps as f64);
                    seen.push(*score);
                }
            }
            // A tag never seen gets the mean of the others.
            let mean = seen.iter().sum::<f64>() / seen.len().max(1) as f64;
            for (score, &steps) in scores.iter_mut().zip(&self.steps) {
                if steps == 0 {
                    *score = mean;
                }
            }
        }
        let count = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / count;
        let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
        let deviation = (squares / (count - 1.0)).sqrt();
        let deviation = if deviation == 0.0 { LEAST } else { deviation };
        scores
            .iter()
            .map(|score| 1.0 / (1.0 + (-2.0 * (score - mean) / deviation).exp()))
            .collect()
    }

    /// Number of tags, then score and steps of each, little-endian.
    pub fn save(&self) -> Vec<u8> {
        let mut state = (self.means.len() as u64).to_le_bytes().to_vec();
        for (mean, steps) in self.means.iter().zip(&self.steps) {
            state.extend(mean.to_le_bytes());
            state.extend(steps.to_le_bytes());
        }
        state
    }

    pub fn restore(&mut self, state: &[u8]) -> Result<()> {
        let words: Vec<[u8; 8]> = state
            .chunks(8)
            .filter_map(|word| word.try_into().ok())
            .collect();
        let tags = self.means.len();
        if state.len() != 8 * words.len() || words.len() != 1 + 2 * tags {
            return Err(PluginError::state(format!(
                "{} bytes cannot hold the running means of {tags} tags: resume with the tags of the checkpoint",
                state.len()
            )));
        }
        if u64::from_le_bytes(words[0]) != tags as u64 {
            return Err(PluginError::state(
                "the checkpoint is of another number of tags",
            ));
        }
        let means: Vec<f64> = words[1..]
            .iter()
            .step_by(2)
            .map(|&word| f64::from_le_bytes(word))
            .collect();
        if means.iter().any(|mean| !mean.is_finite()) {
            return Err(PluginError::state("a score is not finite"));
        }
        self.steps = words[2..]
            .iter()
            .step_by(2)
            .map(|&word| u64::from_le_bytes(word))
            .collect();
        self.means = means;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(weights: &[f64], golden: &[f64]) {
        for (weight, golden) in weights.iter().zip(golden) {
            assert!((weight - golden).abs() < 1e-4, "{weights:?} {golden}");
        }
    }

    #[test]
    fn weights_are_the_published_ones() {
        let mut scores = Scores::new(3, 0.999, false);
        close(&scores.weights(), &[0.5; 3]);
        scores.means = vec![3.0, 2.0, 1.0];
        close(&scores.weights(), &[0.8808, 0.5, 0.1192]);
    }

    #[test]
    fn scores_are_running_means_of_the_tags_that_are_there() {
        let mut scores = Scores::new(3, 0.999, false);
        scores
            .learn(&[0, 0, 2, MaskTokens::UNTAGGED], &[2.0, 4.0, 1.0, 9.0])
            .unwrap();
        close(&scores.means, &[0.003, 0.0, 0.001]);
        scores.learn(&[0], &[1.0]).unwrap();
        close(&scores.means, &[0.003 * 0.999 + 0.001, 0.0, 0.001]);
        assert_eq!(scores.steps, [2, 0, 1]);
        assert!(scores.learn(&[3], &[1.0]).is_err());
        assert!(scores.learn(&[0], &[f32::NAN]).is_err());
    }

    #[test]
    fn corrected_scores_do_not_starve_rare_tags() {
        let (mut plain, mut corrected) =
            (Scores::new(3, 0.999, false), Scores::new(3, 0.999, true));
        for step in 0..100 {
            // Tag 1 is the hardest, but rare; tag 2 never appears.
            let (tags, losses) = if step % 50 == 0 {
                (vec![0, 1], vec![2.0, 8.0])
            } else {
                (vec![0], vec![2.0])
            };
            plain.learn(&tags, &losses).unwrap();
            corrected.learn(&tags, &losses).unwrap();
        }
        let weights = plain.weights();
        assert!(weights[1] < weights[0], "{weights:?}");
        let weights = corrected.weights();
        assert!(
            weights[1] > weights[2] && weights[2] > weights[0],
            "{weights:?}"
        );
        close(&weights[2..], &[0.5]);
    }

    #[test]
    fn state_survives() {
        let mut one = Scores::new(4, 0.9, true);
        one.learn(&[1, 2, 2], &[0.3, 5.0, 1.7]).unwrap();
        let mut other = Scores::new(4, 0.9, true);
        other.restore(&one.save()).unwrap();
        assert_eq!(one.save(), other.save());
        assert_eq!(one.weights(), other.weights());
        for broken in [&[][..], &one.save()[1..], &Scores::new(3, 0.9, true).save()] {
            assert!(other.restore(broken).is_err());
        }
        assert_eq!(one.save(), other.save(), "a refused state changes nothing");
    }
}
