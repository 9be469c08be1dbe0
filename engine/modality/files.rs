//! Files of images (PNG, PGM) and sounds (WAV).

use std::path::Path;

#[cfg(feature = "modality")]
use image::codecs::png::PngEncoder;
#[cfg(feature = "modality")]
use image::codecs::pnm::{PnmEncoder, PnmSubtype, SampleEncoding};

use crate::modality::{Image, Sound};
#[cfg(feature = "modality")]
use crate::modality::{Modality, audio::check_samples};
use crate::{Error, ErrorKind, Result};

#[cfg(not(feature = "modality"))]
pub(super) fn unsupported() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "this build cannot read or write images and sounds",
    )
    .advice("build with the feature modality")
}

/// Check that a file to be written has the ending of a format; needs the feature `modality`.
#[cfg(all(feature = "cli", not(feature = "modality")))]
pub(crate) fn check_ending(_modality: super::Modality, path: &Path) -> Result<()> {
    Err(unsupported().at(path.display()))
}

#[cfg(not(feature = "modality"))]
impl Image {
    /// Read a PNG or PGM file; needs the feature `modality`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`].
    pub fn open(path: &Path, _size: Option<(usize, usize)>) -> Result<Self> {
        Err(unsupported().at(path.display()))
    }

    /// Write a PNG or PGM file; needs the feature `modality`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`].
    pub fn save(&self, path: &Path) -> Result<()> {
        Err(unsupported().at(path.display()))
    }
}

#[cfg(not(feature = "modality"))]
impl Sound {
    /// Read a WAV file; needs the feature `modality`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`].
    pub fn open(path: &Path, _rate: Option<u32>) -> Result<Self> {
        Err(unsupported().at(path.display()))
    }

    pub(super) fn open_for(path: &Path, _rate: u32, _hop: usize) -> Result<Self> {
        Err(unsupported().at(path.display()))
    }

    /// Write a WAV file; needs the feature `modality`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`].
    pub fn save(&self, path: &Path) -> Result<()> {
        Err(unsupported().at(path.display()))
    }
}

/// Columns and rows of an image file at most.
#[cfg(feature = "modality")]
const LARGEST: u32 = 1 << 14;

/// Bytes of a file at most.
#[cfg(feature = "modality")]
const LARGEST_FILE: u64 = 1 << 28;

/// Samples per second of a sound file. Fewer would be stretched to more memory than the file justifies.
#[cfg(feature = "modality")]
const RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// Check that a path leads to a regular file, as paths of corpora may lead to devices and pipes; returns its length.
///
/// # Errors
/// [`ErrorKind::Io`], [`ErrorKind::Input`].
pub(crate) fn check_regular(path: &Path) -> Result<u64> {
    let meta = path.metadata().map_err(Error::io_at(path))?;
    if meta.is_file() {
        return Ok(meta.len());
    }
    let what = "an image or a sound must be a regular file";
    Err(Error::new(ErrorKind::Input, what).at(path.display()))
}

/// Read a regular file of at most [`LARGEST_FILE`] bytes.
#[cfg(feature = "modality")]
fn read(path: &Path) -> Result<Vec<u8>> {
    if check_regular(path)? > LARGEST_FILE {
        let what = "the file is larger than 256 MiB";
        return Err(Error::new(ErrorKind::Input, what).at(path.display()));
    }
    std::fs::read(path).map_err(Error::io_at(path))
}

#[cfg(feature = "modality")]
impl Image {
    /// Read a PNG or PGM file, converted to grey and, with a `size` of columns and rows, scaled to it. What is transparent
    /// is shown on white.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for a file that cannot be read, [`ErrorKind::Input`] for what is no regular file or larger than
    /// 256 MiB, [`ErrorKind::Format`] for a file that is neither PNG nor PGM.
    pub fn open(path: &Path, size: Option<(usize, usize)>) -> Result<Self> {
        let bytes = read(path)?;
        Self::from_bytes(&bytes, size).map_err(|error| error.at(path.display()))
    }

    /// Read the bytes of a PNG or PGM file; see [`Self::open`].
    ///
    /// # Errors
    /// [`ErrorKind::Format`].
    pub fn from_bytes(bytes: &[u8], size: Option<(usize, usize)>) -> Result<Self> {
        let invalid = |error: image::ImageError| {
            let what = match &error {
                image::ImageError::Limits(_) => {
                    format!("the image has more than {LARGEST} columns or rows, or is too large")
                }
                _ => format!("not a PNG or PGM image: {error}"),
            };
            Error::new(ErrorKind::Format, what)
        };
        let mut reader = image::ImageReader::new(std::io::Cursor::new(bytes))
            .with_guessed_format()
            .map_err(|error| invalid(error.into()))?;
        let mut limits = image::Limits::default();
        (limits.max_image_width, limits.max_image_height) = (Some(LARGEST), Some(LARGEST));
        reader.limits(limits);
        let image = reader.decode().map_err(invalid)?;
        let mut image = match image.color().has_alpha() {
            true => on_white(&image.to_luma_alpha8()),
            false => image.to_luma8(),
        };
        if let Some((width, height)) = size
            && image.dimensions() != (width as u32, height as u32)
        {
            let filter = image::imageops::FilterType::Triangle;
            image = image::imageops::resize(&image, width as u32, height as u32, filter);
        }
        Ok(Self {
            width: image.width() as usize,
            height: image.height() as usize,
            pixels: image.into_raw(),
        })
    }

    /// Write a PNG file, or a PGM file where the name ends so.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for another ending, [`ErrorKind::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        check_ending(Modality::Image, path)?;
        let mut bytes = Vec::new();
        match extension(path).as_str() {
            "pgm" => {
                let binary = PnmSubtype::Graymap(SampleEncoding::Binary);
                self.encode(PnmEncoder::new(&mut bytes).with_subtype(binary))?;
            }
            _ => self.encode(PngEncoder::new(&mut bytes))?,
        }
        brillm_file::write(path, bytes).map_err(Error::io_at(path))
    }

    /// Return the bytes of a PNG file.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a size that differs from the number of pixels.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.encode(PngEncoder::new(&mut bytes))?;
        Ok(bytes)
    }

    fn encode(&self, encoder: impl image::ImageEncoder) -> Result<()> {
        let (width, height) = (self.width as u32, self.height as u32);
        let image = image::GrayImage::from_raw(width, height, self.pixels.clone());
        let image = image.filter(|image| image.len() == self.pixels.len());
        let image = image.ok_or_else(|| {
            Error::new(
                ErrorKind::Input,
                format!("{} pixels for {width} × {height}", self.pixels.len()),
            )
        })?;
        image.write_with_encoder(encoder).map_err(|error| {
            Error::new(ErrorKind::Input, "the image cannot be written").because(error)
        })
    }
}

#[cfg(feature = "modality")]
impl Sound {
    /// Read a WAV file as one channel, and with a `rate` converted to that number of samples per second.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for a file that cannot be read, [`ErrorKind::Format`] for one that is not WAV.
    pub fn open(path: &Path, rate: Option<u32>) -> Result<Self> {
        let bytes = read(path)?;
        Self::from_bytes(&bytes, rate).map_err(|error| error.at(path.display()))
    }

    /// Read the bytes of a WAV file; see [`Self::open`].
    ///
    /// # Errors
    /// [`ErrorKind::Format`].
    pub fn from_bytes(bytes: &[u8], rate: Option<u32>) -> Result<Self> {
        Self::admitted(bytes, rate, |_, _| Ok(()))
    }

    /// Read a WAV file for a codec that takes `rate` samples per second, one frame each `hop`.
    ///
    /// # Errors
    /// As [`Self::open`]; [`ErrorKind::Input`] for too many frames, before the samples are read or converted.
    pub(super) fn open_for(path: &Path, rate: u32, hop: usize) -> Result<Self> {
        let located = |error: Error| error.at(path.display());
        let admit = |from, samples| check_samples((from, rate), samples, hop);
        Self::admitted(&read(path)?, Some(rate), admit).map_err(located)
    }

    /// Read the bytes of a WAV file, if `admit` accepts the sampling rate and the number of samples of its header.
    fn admitted(
        bytes: &[u8],
        rate: Option<u32>,
        admit: impl Fn(u32, u64) -> Result<()>,
    ) -> Result<Self> {
        let invalid = |error: hound::Error| {
            let what = match error {
                hound::Error::IoError(_) => "the WAV file is cut short".to_string(),
                error => format!("not a WAV sound: {error}"),
            };
            Error::new(ErrorKind::Format, what)
        };
        let mut reader = hound::WavReader::new(bytes).map_err(invalid)?;
        let spec = reader.spec();
        check_rate(spec.sample_rate)?;
        admit(spec.sample_rate, reader.duration().into())?;
        let samples: Vec<f32> = match spec.sample_format {
            hound::SampleFormat::Float => reader
                .samples::<f32>()
                .collect::<std::result::Result<_, _>>(),
            hound::SampleFormat::Int => {
                let full = (1u64 << (spec.bits_per_sample.clamp(1, 32) - 1)) as f32;
                reader
                    .samples::<i32>()
                    .map(|sample| sample.map(|sample| sample as f32 / full))
                    .collect()
            }
        }
        .map_err(invalid)?;
        let channels = usize::from(spec.channels.max(1));
        let samples: Vec<f32> = samples
            .chunks_exact(channels)
            .map(|frame| frame.iter().sum::<f32>() / channels as f32)
            .collect();
        if samples.iter().any(|sample| !sample.is_finite()) {
            let what = "the sound has samples that are not finite";
            return Err(Error::new(ErrorKind::Format, what));
        }
        let sound = Self {
            rate: spec.sample_rate,
            samples,
        };
        Ok(match rate {
            Some(rate) => sound.resampled(rate),
            None => sound,
        })
    }

    /// Convert to another number of samples per second: linear interpolation, or the mean over a new sample's time where
    /// there are fewer, which attenuates the frequencies that the new rate cannot hold.
    fn resampled(self, rate: u32) -> Self {
        if rate == self.rate || self.samples.is_empty() {
            return Self { rate, ..self };
        }
        let step = f64::from(self.rate) / f64::from(rate);
        let count = ((self.samples.len() as f64 / step) as usize).max(1);
        let last = self.samples.len() - 1;
        let sample = |at: usize| {
            let start = at as f64 * step;
            let first = (start as usize).min(last);
            if step > 1.0 {
                let end = ((start + step) as usize).clamp(first + 1, last + 1);
                let span = &self.samples[first..end];
                return span.iter().sum::<f32>() / span.len() as f32;
            }
            let above = (start - first as f64) as f32;
            (1.0 - above) * self.samples[first] + above * self.samples[(first + 1).min(last)]
        };
        Self {
            rate,
            samples: (0..count).map(sample).collect(),
        }
    }

    /// Write a WAV file of 16 bits.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a name that does not end in `.wav`, [`ErrorKind::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        check_ending(Modality::Audio, path)?;
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: self.rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut bytes = std::io::Cursor::new(Vec::new());
        let written = (|| {
            let mut writer = hound::WavWriter::new(&mut bytes, spec)?;
            for sample in &self.samples {
                writer.write_sample((sample.clamp(-1.0, 1.0) * 32767.0) as i16)?;
            }
            writer.finalize()
        })();
        written.map_err(|error: hound::Error| {
            Error::new(ErrorKind::Input, "the sound cannot be written").because(error)
        })?;
        brillm_file::write(path, bytes.into_inner()).map_err(Error::io_at(path))
    }
}

/// Check the sampling rate of a sound file.
#[cfg(feature = "modality")]
fn check_rate(rate: u32) -> Result<()> {
    if RATES.contains(&rate) {
        return Ok(());
    }
    let (least, most) = RATES.into_inner();
    Err(Error::new(
        ErrorKind::Format,
        format!("invalid sampling rate {rate}: expected {least} to {most} samples per second"),
    ))
}

/// Blend an image over white.
#[cfg(feature = "modality")]
fn on_white(image: &image::GrayAlphaImage) -> image::GrayImage {
    image::GrayImage::from_fn(image.width(), image.height(), |x, y| {
        let [grey, alpha] = image.get_pixel(x, y).0.map(u32::from);
        image::Luma([((grey * alpha + 255 * (255 - alpha) + 127) / 255) as u8])
    })
}

/// Check that a file to be written has the ending of a format of the modality.
///
/// # Errors
/// [`ErrorKind::Input`] for another ending.
#[cfg(feature = "modality")]
pub(crate) fn check_ending(modality: Modality, path: &Path) -> Result<()> {
    let (endings, advice): (&[&str], _) = match modality {
        Modality::Image => (&["png", "pgm"], "images are written as .png or .pgm"),
        Modality::Audio => (&["wav"], "sounds are written as .wav"),
    };
    if endings.contains(&&*extension(path)) {
        return Ok(());
    }
    let what = "the ending of the name is not that of a known format";
    Err(Error::new(ErrorKind::Input, what)
        .at(path.display())
        .advice(advice))
}

#[cfg(feature = "modality")]
fn extension(path: &Path) -> String {
    let ending = path.extension().unwrap_or_default();
    ending.to_string_lossy().to_lowercase()
}
