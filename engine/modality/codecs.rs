//! The codecs of a vocabulary, and the tokens of a file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::modality::{
    AudioCodec, AudioSettings, Image, ImageCodec, ImageSettings, Modality, Sound,
};
use crate::{Error, ErrorKind, Result};

/// Files that a codebook is learned from at most.
const MOST_FILES: usize = 4096;

/// A file of a corpus that is not text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaFile {
    /// Its modality.
    pub modality: Modality,
    /// Its path.
    pub path: PathBuf,
    /// The record that names it: a file and a line.
    pub location: String,
}

/// The codecs of a vocabulary, one for each of its modalities.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Codecs {
    /// The codec of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageCodec>,
    /// The codec of sounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<AudioCodec>,
}

impl Codecs {
    /// Learn the codebooks of the modalities that have settings from the files of a corpus.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for settings without files of that modality; those of reading the files.
    pub fn learn(
        files: &[MediaFile],
        image: Option<&ImageSettings>,
        audio: Option<&AudioSettings>,
        seed: u64,
    ) -> Result<Self> {
        let image = image.map(|settings| -> Result<ImageCodec> {
            let files = sample(files, Modality::Image)?;
            let first = open_all(&files[..1], |path| Image::open(path, None))?;
            let size = ImageCodec::size(settings, &first[0])?;
            let images = open_all(&files, |path| Image::open(path, Some(size)))?;
            ImageCodec::learn(settings, &images, seed)
        });
        let audio = audio.map(|settings| -> Result<AudioCodec> {
            let files = sample(files, Modality::Audio)?;
            AudioCodec::check_settings(settings)?;
            let frames = open_all(&files, |path| {
                let sound = Sound::open_for(path, settings.rate, settings.hop)?;
                AudioCodec::sample(settings, &sound, files.len())
            })?;
            AudioCodec::learn(settings, &frames.concat(), seed)
        });
        Ok(Self {
            image: image.transpose()?,
            audio: audio.transpose()?,
        })
    }

    /// Return whether images and sounds are both without a codec.
    pub fn is_empty(&self) -> bool {
        self.image.is_none() && self.audio.is_none()
    }

    /// Number of codes of a modality; `None` without its codec.
    pub fn codes(&self, modality: Modality) -> Option<usize> {
        match modality {
            Modality::Image => self.image.as_ref().map(|codec| codec.codebook().len()),
            Modality::Audio => self.audio.as_ref().map(|codec| codec.codebook().len()),
        }
    }

    /// Return the codec of images.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] without one.
    pub fn require_image(&self) -> Result<&ImageCodec> {
        self.image.as_ref().ok_or_else(|| Modality::Image.missing())
    }

    /// Return the codec of sounds.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] without one.
    pub fn require_audio(&self) -> Result<&AudioCodec> {
        self.audio.as_ref().ok_or_else(|| Modality::Audio.missing())
    }

    /// The tokens of all modalities: begin, end, and each code.
    pub fn marks(&self) -> Vec<String> {
        let mut marks = Vec::new();
        for modality in Modality::ALL {
            if let Some(codes) = self.codes(modality) {
                marks.extend([modality.begin(), modality.end()]);
                marks.extend((0..codes).map(|code| modality.code(code)));
            }
        }
        marks
    }

    /// Encode a PNG, PGM or WAV file as codes.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] without a codec of the modality; those of reading the file.
    pub fn encode_file(&self, modality: Modality, path: &Path) -> Result<Vec<usize>> {
        let codes = match modality {
            Modality::Image => {
                let codec = self.require_image()?;
                codec.encode(&Image::open(path, Some(codec.dimensions()))?)
            }
            Modality::Audio => {
                let codec = self.require_audio()?;
                codec.encode(&Sound::open_for(path, codec.rate(), codec.hop())?)
            }
        };
        codes.map_err(|error| match error.parts().location {
            None if error.kind() != ErrorKind::Unsupported => error.at(path.display()),
            _ => error,
        })
    }

    /// Decode codes to a PNG, PGM or WAV file.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] without a codec of the modality; those of its decoder and of writing.
    pub fn decode_to_file(&self, modality: Modality, codes: &[usize], path: &Path) -> Result<()> {
        match modality {
            Modality::Image => self.require_image()?.decode(codes)?.save(path),
            Modality::Audio => self.require_audio()?.decode(codes)?.save(path),
        }
    }

    /// Write codes as text: the names of their tokens, with begin and end.
    pub fn spell(modality: Modality, codes: &[usize]) -> String {
        let mut text = modality.begin();
        for &code in codes {
            text.push_str(&modality.code(code));
        }
        text + &modality.end()
    }

    /// Check codecs that were read from a file.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for impossible sizes and codebooks of another shape.
    pub(crate) fn check(&self) -> Result<()> {
        let located = |modality: Modality| {
            move |error: Error| error.at(format!("codec of {}", modality.name()))
        };
        if let Some(codec) = &self.image {
            codec.check().map_err(located(Modality::Image))?;
        }
        if let Some(codec) = &self.audio {
            codec.check().map_err(located(Modality::Audio))?;
        }
        Ok(())
    }
}

/// Return the files of a modality, thinned out evenly to [`MOST_FILES`].
fn sample(files: &[MediaFile], modality: Modality) -> Result<Vec<&MediaFile>> {
    let all: Vec<&MediaFile> = files
        .iter()
        .filter(|file| file.modality == modality)
        .collect();
    let step = all.len().div_ceil(MOST_FILES).max(1);
    let sample: Vec<&MediaFile> = all.into_iter().step_by(step).collect();
    if sample.is_empty() {
        let name = modality.name();
        return Err(Error::new(
            ErrorKind::Input,
            format!("no record of the training data has a field {name:?}"),
        )
        .advice(format!(
            "name files in JSONL records, as in {{\"{name}\": \"PATH\", \"text\": \"…\"}}, or remove [data.{name}]"
        )));
    }
    Ok(sample)
}

/// Read files in parallel.
fn open_all<T: Send>(
    files: &[&MediaFile],
    open: impl Fn(&Path) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    use rayon::prelude::*;
    files
        .par_iter()
        .map(|file| open(&file.path).map_err(|error| error.at(&file.location)))
        .collect()
}
