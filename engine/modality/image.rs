//! Images: grey pixels, and their codec by patches.

use serde::{Deserialize, Serialize};

use crate::modality::{Codebook, check_range};
use crate::{Error, ErrorKind, Result};

/// Patches of an image at most.
const MOST_PATCHES: usize = 4096;

/// A grey image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Brightness, row by row; 255 is white. `[height, width]`
    pub pixels: Vec<u8>,
}

/// Settings of images in a run file, `[data.image]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ImageSettings {
    /// Columns to which images are scaled; by default those of the first image, rounded up to whole patches.
    pub width: Option<usize>,
    /// Rows to which images are scaled; by default those of the first image, rounded up to whole patches.
    pub height: Option<usize>,
    /// Columns and rows of a patch.
    pub patch: usize,
    /// Codes of the codebook.
    pub codes: usize,
}

impl Default for ImageSettings {
    fn default() -> Self {
        Self {
            width: None,
            height: None,
            patch: 2,
            codes: 128,
        }
    }
}

/// Codec of images: scales an image to a fixed size and replaces each patch by the code of the nearest patch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageCodec {
    width: usize,
    height: usize,
    patch: usize,
    codebook: Codebook,
}

impl ImageCodec {
    /// Return the size to which images are scaled, for a first image of the given size.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for a size that patches do not divide, or with too many patches.
    pub(super) fn size(settings: &ImageSettings, first: &Image) -> Result<(usize, usize)> {
        let patch = settings.patch;
        check_range("data.image.patch", patch, 1, 64)?;
        check_range("data.image.codes", settings.codes, 2, 1 << 16)?;
        let whole = |pixels: usize| pixels.div_ceil(patch).max(1) * patch;
        let width = settings.width.unwrap_or(whole(first.width));
        let height = settings.height.unwrap_or(whole(first.height));
        check_size(width, height, patch).map_err(|what| {
            Error::new(ErrorKind::Configuration, what)
                .advice("set data.image.width, data.image.height and data.image.patch")
        })?;
        Ok((width, height))
    }

    /// Learn the codebook from images of one size.
    ///
    /// # Errors
    /// As [`Codebook::learn`].
    pub(super) fn learn(settings: &ImageSettings, images: &[Image], seed: u64) -> Result<Self> {
        let patch = settings.patch;
        let mut vectors = Vec::new();
        for image in images {
            patches(image, patch, |values| vectors.extend_from_slice(values));
        }
        let (width, height) = images.first().map_or((0, 0), |one| (one.width, one.height));
        Ok(Self {
            width,
            height,
            patch,
            codebook: Codebook::learn(&vectors, patch * patch, settings.codes, seed)?,
        })
    }

    /// Columns and rows of every image.
    pub fn dimensions(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Number of codes of an image.
    pub fn patches(&self) -> usize {
        (self.width / self.patch) * (self.height / self.patch)
    }

    /// The patches of the codes, with brightness from 0 to 1. `[codes, patch²]`
    pub fn codebook(&self) -> &Codebook {
        &self.codebook
    }

    /// Encode an image as codes, row by row. `[patches]`
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an image of another size.
    pub fn encode(&self, image: &Image) -> Result<Vec<usize>> {
        let whole = image.pixels.len() == self.width * self.height;
        if (image.width, image.height) != self.dimensions() || !whole {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "an image of {} × {} pixels, expected {} × {}",
                    image.width, image.height, self.width, self.height
                ),
            ));
        }
        let mut codes = Vec::with_capacity(self.patches());
        patches(image, self.patch, |values| {
            codes.push(self.codebook.nearest(values));
        });
        Ok(codes)
    }

    /// Decode codes to an image.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for another number of codes, or a code outside the codebook.
    pub fn decode(&self, codes: &[usize]) -> Result<Image> {
        if codes.len() != self.patches() {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "an image of {} codes, expected {}",
                    codes.len(),
                    self.patches()
                ),
            ));
        }
        let mut pixels = vec![0; self.width * self.height];
        let across = self.width / self.patch;
        for (at, &code) in codes.iter().enumerate() {
            let tile = self.tile(code)?;
            let (top, left) = (at / across * self.patch, at % across * self.patch);
            for (row, values) in tile.pixels.chunks_exact(self.patch).enumerate() {
                let start = (top + row) * self.width + left;
                pixels[start..start + self.patch].copy_from_slice(values);
            }
        }
        Ok(Image {
            width: self.width,
            height: self.height,
            pixels,
        })
    }

    /// The patch of a code as an image.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a code outside the codebook.
    pub fn tile(&self, code: usize) -> Result<Image> {
        if code >= self.codebook.len() {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "image code {code} is outside the codebook of {}",
                    self.codebook.len()
                ),
            ));
        }
        let values = self.codebook.row(code).iter();
        Ok(Image {
            width: self.patch,
            height: self.patch,
            pixels: values
                .map(|value| (value * 255.0).round().clamp(0.0, 255.0) as u8)
                .collect(),
        })
    }

    /// Check a codec that was read from a file.
    pub(super) fn check(&self) -> Result<()> {
        check_size(self.width, self.height, self.patch)
            .map_err(|what| Error::new(ErrorKind::Format, what))?;
        self.codebook.check(self.patch * self.patch)
    }
}

/// Check that patches divide an image, and that there are not too many.
fn check_size(width: usize, height: usize, patch: usize) -> std::result::Result<(), String> {
    let divides = |pixels: usize| (1..=1 << 16).contains(&pixels) && pixels % patch == 0;
    if !(1..=64).contains(&patch) || !divides(width) || !divides(height) {
        return Err(format!(
            "images of {width} × {height} pixels cannot be divided into patches of {patch} × {patch}"
        ));
    }
    let count = (width / patch) * (height / patch);
    if count > MOST_PATCHES {
        return Err(format!(
            "images of {width} × {height} pixels have {count} patches of {patch} × {patch}, at most {MOST_PATCHES} are supported"
        ));
    }
    Ok(())
}

/// Pass the patches of an image, with brightness from 0 to 1, to `take`.
fn patches(image: &Image, patch: usize, mut take: impl FnMut(&[f32])) {
    let mut values = Vec::with_capacity(patch * patch);
    for top in (0..image.height).step_by(patch) {
        for left in (0..image.width).step_by(patch) {
            values.clear();
            for row in top..top + patch {
                let start = row * image.width + left;
                let pixels = &image.pixels[start..start + patch];
                values.extend(pixels.iter().map(|&pixel| f32::from(pixel) / 255.0));
            }
            take(&values);
        }
    }
}
