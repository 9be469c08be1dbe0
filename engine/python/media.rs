//! Images and sounds: tokens of files, and arrays and files of tokens.

use std::path::PathBuf;

use brillm::modality::Modality;
use brillm::{Engine, Error, ErrorKind, Result};
use pyo3::prelude::*;

use crate::buffer::Buffer;
use crate::call::detached;
use crate::model::Model;

/// Find a modality by its name.
///
/// # Errors
/// [`ErrorKind::Input`] for another name.
pub(crate) fn modality(name: &str) -> Result<Modality> {
    let mut all = Modality::ALL.into_iter();
    all.find(|modality| modality.name() == name).ok_or_else(|| {
        Error::new(ErrorKind::Input, format!("unknown modality {name:?}"))
            .advice("pass \"image\" or \"audio\"")
    })
}

fn check(engine: &Engine, ids: &[u32]) -> Result<()> {
    brillm::measure::check_ids(ids, engine.vocabulary())
}

/// The tokens of a prompt that begins with an image or a sound of a file.
#[pyfunction]
pub(crate) fn encode_media(
    py: Python<'_>,
    model: &Model,
    name: &str,
    path: PathBuf,
) -> PyResult<Vec<u32>> {
    let tokenizer = model.engine.tokenizer();
    detached(py, || tokenizer.prompt_of_file(modality(name)?, &path))
}

/// The image of the codes among tokens. `[height, width]`
#[pyfunction]
pub(crate) fn decode_image(py: Python<'_>, model: &Model, ids: Vec<u32>) -> PyResult<Buffer> {
    let image = detached(py, || {
        check(&model.engine, &ids)?;
        model.engine.tokenizer().decode_image(&ids)
    })?;
    let shape = vec![image.height, image.width];
    Ok(Buffer::new(image.pixels, shape, |pixels| pixels.as_slice()))
}

/// The sound of the codes among tokens `[samples]`, and its samples per second.
#[pyfunction]
pub(crate) fn decode_audio(
    py: Python<'_>,
    model: &Model,
    ids: Vec<u32>,
) -> PyResult<(Buffer, u32)> {
    let sound = detached(py, || {
        check(&model.engine, &ids)?;
        model.engine.tokenizer().decode_audio(&ids)
    })?;
    Ok((Buffer::of(sound.samples), sound.rate))
}

/// Write the image or the sound of the codes among tokens to a file.
#[pyfunction]
pub(crate) fn save_media(
    py: Python<'_>,
    model: &Model,
    name: &str,
    ids: Vec<u32>,
    path: PathBuf,
) -> PyResult<()> {
    detached(py, || {
        check(&model.engine, &ids)?;
        let tokenizer = model.engine.tokenizer();
        tokenizer.decode_to_file(modality(name)?, &ids, &path)
    })
}
