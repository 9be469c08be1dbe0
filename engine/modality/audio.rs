//! Sounds: samples of one channel, and their codec by frames.

use serde::{Deserialize, Serialize};

#[cfg(feature = "modality")]
use crate::modality::codebook::MOST_VECTORS;
use crate::modality::{Codebook, check_range};
use crate::{Error, ErrorKind, Result};

/// Frames of a sound at most.
#[cfg(feature = "modality")]
const MOST_FRAMES: u64 = 4096;

/// Check the number of samples of a sound, before it is converted from the first of two sampling rates to the second and its
/// spectra are computed. The silence at its ends counts: where it is, only the spectra tell.
#[cfg(feature = "modality")]
pub(super) fn check_samples((from, to): (u32, u32), samples: u64, hop: usize) -> Result<()> {
    let samples = samples.saturating_mul(to.into()) / u64::from(from.max(1));
    let count = samples.div_ceil(hop as u64);
    if count <= MOST_FRAMES {
        return Ok(());
    }
    let what = format!("the sound has {count} frames, at most {MOST_FRAMES} are supported");
    Err(Error::new(ErrorKind::Input, what).advice("cut the sound, or raise data.audio.hop"))
}

/// Codes of a generated sound at most, unless the caller names another number.
pub const SOUND_CODES: usize = 512;

/// A sound of one channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    /// Samples per second.
    pub rate: u32,
    /// Samples from −1 to 1.
    pub samples: Vec<f32>,
}

/// Settings of sounds in a run file, `[data.audio]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AudioSettings {
    /// Samples per second to which sounds are converted.
    pub rate: u32,
    /// Samples from one frame to the next; a frame is three times as long.
    pub hop: usize,
    /// Frequency bands of a frame's spectrum, spaced as in the mel scale.
    pub bands: usize,
    /// Codes of the codebook.
    pub codes: usize,
}

impl Default for AudioSettings {
    fn default() -> Self {
        Self {
            rate: 8000,
            hop: 128,
            bands: 32,
            codes: 256,
        }
    }
}

/// Codec of sounds: converts a sound to one sampling rate and replaces the short log spectrum of each frame by the code of the
/// nearest spectrum. Silence before and after the sound is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioCodec {
    rate: u32,
    hop: usize,
    bands: usize,
    codebook: Codebook,
}

impl AudioCodec {
    /// Samples per second of every sound.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Samples from one frame to the next.
    pub fn hop(&self) -> usize {
        self.hop
    }

    /// The spectra of the codes: log₁₀ of the power in each band, from −6 to 0, relative to the loudest band of the
    /// sound. `[codes, bands]`
    pub fn codebook(&self) -> &Codebook {
        &self.codebook
    }

    /// Check settings.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for those out of range.
    pub(super) fn check_settings(settings: &AudioSettings) -> Result<()> {
        check_shape(settings.rate, settings.hop, settings.bands)?;
        check_range("data.audio.codes", settings.codes, 2, 1 << 16)
    }

    /// Learn the codebook from the spectra of sounds. `frames [frames, bands]`
    ///
    /// # Errors
    /// As [`Codebook::learn`].
    pub(super) fn learn(settings: &AudioSettings, frames: &[f32], seed: u64) -> Result<Self> {
        Ok(Self {
            rate: settings.rate,
            hop: settings.hop,
            bands: settings.bands,
            codebook: Codebook::learn(frames, settings.bands, settings.codes, seed)?,
        })
    }

    /// Check a codec that was read from a file.
    pub(super) fn check(&self) -> Result<()> {
        check_shape(self.rate, self.hop, self.bands)
            .map_err(|error| Error::new(ErrorKind::Format, error.parts().what))?;
        self.codebook.check(self.bands)
    }
}

#[cfg(feature = "modality")]
impl AudioCodec {
    /// Return the spectra of a sound of the sampling rate of the settings, thinned out evenly where those of `sounds` such
    /// sounds are more than a codebook is learned from. `[frames, bands]`
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for more than 4,096 frames, with the silence at both ends.
    pub(super) fn sample(
        settings: &AudioSettings,
        sound: &Sound,
        sounds: usize,
    ) -> Result<Vec<f32>> {
        let (hop, bands) = (settings.hop, settings.bands);
        check_samples((1, 1), sound.samples.len() as u64, hop)?;
        let frames = Self::spectra(settings.rate, hop, bands).frames(&sound.samples);
        let step = (frames.len() / bands).div_ceil((MOST_VECTORS / sounds).max(1));
        let frames = frames.chunks_exact(bands).step_by(step.max(1));
        Ok(frames.flatten().copied().collect())
    }

    fn spectra(rate: u32, hop: usize, bands: usize) -> super::spectrum::Spectra {
        super::spectrum::Spectra::new(rate, hop, bands)
    }

    /// Encode a sound as codes. `[frames]`
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for another sampling rate, for silence, and for more than 4,096 frames, with the silence at both ends.
    pub fn encode(&self, sound: &Sound) -> Result<Vec<usize>> {
        if sound.rate != self.rate {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "a sound of {} samples per second, expected {}",
                    sound.rate, self.rate
                ),
            ));
        }
        check_samples((1, 1), sound.samples.len() as u64, self.hop)?;
        let frames = Self::spectra(self.rate, self.hop, self.bands).frames(&sound.samples);
        let count = frames.len() / self.bands;
        if count == 0 {
            return Err(Error::new(ErrorKind::Input, "the sound is silent"));
        }
        let frames = frames.chunks_exact(self.bands);
        Ok(frames.map(|frame| self.codebook.nearest(frame)).collect())
    }

    /// Decode codes to a sound: the phases that fit the spectra are found by the algorithm of Griffin and Lim (1984).
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a code outside the codebook.
    pub fn decode(&self, codes: &[usize]) -> Result<Sound> {
        if let Some(code) = codes.iter().find(|&&code| code >= self.codebook.len()) {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "audio code {code} is outside the codebook of {}",
                    self.codebook.len()
                ),
            ));
        }
        let frames: Vec<f32> = codes
            .iter()
            .flat_map(|&code| self.codebook.row(code).iter().copied())
            .collect();
        Ok(Sound {
            rate: self.rate,
            samples: Self::spectra(self.rate, self.hop, self.bands).samples(&frames),
        })
    }
}

#[cfg(not(feature = "modality"))]
impl AudioCodec {
    pub(super) fn sample(_: &AudioSettings, _: &Sound, _sounds: usize) -> Result<Vec<f32>> {
        Err(super::files::unsupported())
    }

    /// Encode a sound; needs the feature `modality`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`].
    pub fn encode(&self, _sound: &Sound) -> Result<Vec<usize>> {
        Err(super::files::unsupported())
    }

    /// Decode codes to a sound; needs the feature `modality`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`].
    pub fn decode(&self, _codes: &[usize]) -> Result<Sound> {
        Err(super::files::unsupported())
    }
}

fn check_shape(rate: u32, hop: usize, bands: usize) -> Result<()> {
    check_range("data.audio.rate", rate as usize, 1000, 192_000)?;
    check_range("data.audio.hop", hop, 16, 1 << 14)?;
    check_range("data.audio.bands", bands, 2, 256)
}
