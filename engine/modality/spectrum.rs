//! Short-time spectra of a sound in bands, and a sound from them.

use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use crate::kernel::random::Random;

/// log₁₀ of the least power of a band, relative to the loudest one: −60 dB.
const FLOOR: f32 = -6.0;
/// Frames at both ends whose bands are all below this are silence: −40 dB.
const SILENCE: f32 = -4.0;
/// Hops of a frame.
const OVERLAP: usize = 3;
/// Iterations of Griffin and Lim.
const ITERATIONS: usize = 60;
/// Largest sample of a decoded sound.
const PEAK: f32 = 0.9;

/// The transforms between samples and frames of bands.
pub(super) struct Spectra {
    hop: usize,
    /// A Hann window. `[OVERLAP · hop]`
    window: Vec<f32>,
    /// Frequencies of the bands, as fractional indices of the transform. `[bands]`
    centers: Vec<f32>,
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
}

impl Spectra {
    pub(super) fn new(rate: u32, hop: usize, bands: usize) -> Self {
        let length = OVERLAP * hop;
        let mut planner = RealFftPlanner::new();
        // The mel scale (O'Shaughnessy 1987): bands of equal width for the ear. f = 700 (10^(m/2595) − 1).
        let mel = |frequency: f32| 2595.0 * (1.0 + frequency / 700.0).log10();
        let top = mel(rate as f32 / 2.0);
        let center = |band: usize| {
            let m = top * (band as f32 + 0.5) / bands as f32;
            700.0 * (10f32.powf(m / 2595.0) - 1.0) * length as f32 / rate as f32
        };
        let turn = std::f32::consts::TAU / length as f32;
        Self {
            hop,
            window: (0..length)
                .map(|at| 0.5 - 0.5 * (turn * (at as f32 + 0.5)).cos())
                .collect(),
            centers: (0..bands).map(center).collect(),
            forward: planner.plan_fft_forward(length),
            inverse: planner.plan_fft_inverse(length),
        }
    }

    /// Position of a frequency among the bands: the band below and the weight of the one above.
    fn between(&self, bin: usize) -> (usize, f32) {
        let bin = bin as f32;
        let above = self.centers.partition_point(|&center| center <= bin);
        if above == 0 || above == self.centers.len() {
            return (above.saturating_sub(1), 0.0);
        }
        let (low, high) = (self.centers[above - 1], self.centers[above]);
        (above - 1, (bin - low) / (high - low))
    }

    /// Compute the frames of a sound without the silence at both ends: log₁₀ of the mean power of each band, relative to
    /// the loudest. `[frames, bands]`, empty for silence.
    pub(super) fn frames(&self, samples: &[f32]) -> Vec<f32> {
        let bands = self.centers.len();
        let mut frames = Vec::new();
        for spectrum in self.transform(&self.padded(samples)) {
            // Each frequency contributes to the two bands around it, in inverse proportion to the distance.
            let (mut sums, mut weights) = (vec![0.0f32; bands], vec![1e-9f32; bands]);
            for (bin, value) in spectrum.iter().enumerate() {
                let (band, above) = self.between(bin);
                let next = (band + 1).min(bands - 1);
                for (band, weight) in [(band, 1.0 - above), (next, above)] {
                    sums[band] += weight * value.norm_sqr();
                    weights[band] += weight;
                }
            }
            frames.extend(sums.iter().zip(&weights).map(|(sum, weight)| sum / weight));
        }
        let loudest = frames.iter().fold(0.0f32, |most, &power| most.max(power));
        if loudest.is_nan() || loudest <= 1e-12 {
            return Vec::new();
        }
        for power in &mut frames {
            *power = (*power / loudest).max(1e-12).log10().max(FLOOR);
        }
        let audible = |frame: &[f32]| frame.iter().any(|&power| power > SILENCE);
        let first = frames.chunks(bands).position(audible).unwrap_or(0);
        let last = frames.chunks(bands).rposition(audible).unwrap_or(0);
        frames[first * bands..(last + 1) * bands].to_vec()
    }

    /// Find a sound whose spectra have the magnitudes of the frames: repeat transforming back and forth, keeping the
    /// magnitudes given and the phases found.
    pub(super) fn samples(&self, frames: &[f32]) -> Vec<f32> {
        let bins = self.window.len() / 2 + 1;
        let mut magnitudes = Vec::with_capacity(frames.len() / self.centers.len());
        for frame in frames.chunks_exact(self.centers.len()) {
            let magnitude = |bin| {
                let (band, above) = self.between(bin);
                let next = (band + 1).min(frame.len() - 1);
                let power = (1.0 - above) * frame[band] + above * frame[next];
                if power <= FLOOR + 0.5 {
                    0.0
                } else {
                    10f32.powf(power / 2.0)
                }
            };
            magnitudes.push((0..bins).map(magnitude).collect::<Vec<f32>>());
        }
        let mut random = Random::new(0);
        let mut spectra: Vec<Vec<Complex<f32>>> = magnitudes
            .iter()
            .map(|frame| {
                let phase = |&magnitude| {
                    Complex::from_polar(magnitude, std::f32::consts::TAU * random.uniform() as f32)
                };
                frame.iter().map(phase).collect()
            })
            .collect();
        let mut samples = self.overlapped(&spectra);
        for _ in 0..ITERATIONS {
            spectra = self.transform(&samples);
            for (spectrum, magnitudes) in spectra.iter_mut().zip(&magnitudes) {
                for (value, magnitude) in spectrum.iter_mut().zip(magnitudes) {
                    *value = *value / value.norm().max(1e-9) * magnitude;
                }
            }
            samples = self.overlapped(&spectra);
        }
        let loudest = samples
            .iter()
            .fold(1e-9f32, |most, one| most.max(one.abs()));
        samples.iter().map(|one| one / loudest * PEAK).collect()
    }

    /// Put zeros before and after the samples, so that every sample is in `OVERLAP` frames.
    fn padded(&self, samples: &[f32]) -> Vec<f32> {
        let rest = self.window.len() - self.hop;
        let whole = samples.len().div_ceil(self.hop) * self.hop;
        let mut padded = vec![0.0; rest + whole + rest];
        padded[rest..rest + samples.len()].copy_from_slice(samples);
        padded
    }

    /// Compute the spectrum of each frame. `[frames][window / 2 + 1]`
    fn transform(&self, samples: &[f32]) -> Vec<Vec<Complex<f32>>> {
        let mut spectra = Vec::new();
        for start in (0..(samples.len() + 1).saturating_sub(self.window.len())).step_by(self.hop) {
            let frame = &samples[start..start + self.window.len()];
            let mut input: Vec<f32> = frame
                .iter()
                .zip(&self.window)
                .map(|(sample, weight)| sample * weight)
                .collect();
            let mut output = self.forward.make_output_vec();
            // It fails for buffers of other lengths only.
            if self.forward.process(&mut input, &mut output).is_ok() {
                spectra.push(output);
            }
        }
        spectra
    }

    /// Add up the frames of spectra: the samples whose windowed frames are nearest to them.
    fn overlapped(&self, spectra: &[Vec<Complex<f32>>]) -> Vec<f32> {
        let length = self.window.len();
        let count = spectra.len().saturating_sub(1) * self.hop + length;
        let (mut sums, mut weights) = (vec![0.0f32; count], vec![1e-3f32; count]);
        for (at, spectrum) in spectra.iter().enumerate() {
            let mut input = spectrum.clone();
            // The first and the last value of the spectrum of real samples are real.
            for value in [0, length / 2] {
                if value == 0 || length % 2 == 0 {
                    input[value].im = 0.0;
                }
            }
            let mut output = self.inverse.make_output_vec();
            if self.inverse.process(&mut input, &mut output).is_err() {
                continue;
            }
            for (n, (value, weight)) in output.iter().zip(&self.window).enumerate() {
                sums[at * self.hop + n] += value / length as f32 * weight;
                weights[at * self.hop + n] += weight * weight;
            }
        }
        sums.iter()
            .zip(&weights)
            .map(|(sum, weight)| sum / weight)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(frequency: f32, length: usize) -> Vec<f32> {
        let turn = std::f32::consts::TAU * frequency / 8000.0;
        (0..length)
            .map(|at| 0.5 * (turn * at as f32).sin())
            .collect()
    }

    fn loudest_band(frames: &[f32], bands: usize) -> usize {
        let middle = &frames[frames.len() / bands / 2 * bands..][..bands];
        let most = middle.iter().copied().fold(f32::MIN, f32::max);
        middle.iter().position(|&one| one == most).unwrap()
    }

    #[test]
    fn a_tone_survives_frames_and_back() {
        let spectra = Spectra::new(8000, 128, 32);
        for frequency in [300.0, 900.0, 2500.0] {
            let mut sound = vec![0.0; 1000];
            sound.extend(tone(frequency, 4000));
            sound.extend(vec![0.0; 3000]);
            let frames = spectra.frames(&sound);
            let count = frames.len() / 32;
            assert!((31..=35).contains(&count), "silence is left out: {count}");
            let again = spectra.frames(&spectra.samples(&frames));
            assert_eq!(
                loudest_band(&frames, 32),
                loudest_band(&again, 32),
                "{frequency} Hz"
            );
            let center = spectra.centers[loudest_band(&frames, 32)] * 8000.0 / 384.0;
            assert!(
                (center / frequency - 1.0).abs() < 0.2,
                "{frequency} Hz: {center}"
            );
        }
    }

    #[test]
    fn silence_has_no_frames() {
        let spectra = Spectra::new(8000, 128, 32);
        for samples in [vec![], vec![0.0; 5000], vec![f32::NAN; 500]] {
            assert_eq!(spectra.frames(&samples), Vec::<f32>::new());
        }
    }
}
