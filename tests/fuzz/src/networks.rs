//! Model folders in Hugging Face's layout, and PyTorch checkpoints.

use std::io::{Cursor, Write};
use std::path::Path;

use brillm::model::import::Checkpoint;
use brillm::path::Sampling;
use brillm::transformer::{Body, Transformer, evaluate_stream};
use brillm::{Engine, Request};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::{files, parts};

/// Files of a model folder, in the order of the parts of an input.
pub const FILES: [&str; 6] = [
    "config.json",
    "model.safetensors",
    "generation_config.json",
    "model.safetensors.index.json",
    "model-00001-of-00001.safetensors",
    "brillm.json",
];

fn use_folder(path: &Path) -> brillm::Result<()> {
    let model = Transformer::open(path)?;
    let vocabulary = model.configuration().vocabulary;
    if matches!(&**model.body(), Body::Network(_)) {
        let _ = evaluate_stream(&model, &[0, 1, 2, 0], 1);
    }
    let engine = Engine::from(&model);
    let request = Request::ids(vec![0, (vocabulary - 1) as u32])
        .tokens(3)
        .sampling(Sampling::default().temperature(1.0));
    for piece in engine.start(request)? {
        piece?;
    }
    Ok(())
}

/// Write the parts of an input as the files of a model folder.
pub fn write_folder(folder: &Path, data: &[u8]) {
    files::write_parts(folder, &FILES, parts::<{ FILES.len() }>(data));
}

/// Open the parts as the files of a model folder and generate a few tokens.
pub fn folder(data: &[u8]) {
    crate::let_panics_be_caught();
    let folder = files::folder().join("model");
    write_folder(&folder, data);
    let _ = use_folder(&folder);
}

fn read(path: &Path) {
    let Ok(checkpoint) = Checkpoint::open(path) else {
        return;
    };
    for (name, tensor) in checkpoint.tensors() {
        let count: usize = tensor.shape.iter().product();
        let mut values = vec![0.0; count.min(16)];
        let _ = checkpoint.read(name, 0, &mut values);
        let _ = checkpoint.read(name, count.saturating_sub(values.len()), &mut values);
        assert!(
            checkpoint.read(name, count, &mut [0.0]).is_err(),
            "{name} is read past its end"
        );
    }
}

/// Open the bytes as a checkpoint of any layout.
pub fn checkpoint(data: &[u8]) {
    read(&files::write("checkpoint", data));
}

/// Open the bytes as a zip archive.
pub fn zip(data: &[u8]) {
    let mut bytes = data.to_vec();
    // Anything but an archive is read as safetensors, which another target covers.
    let length = bytes.len().min(4);
    bytes[..length].copy_from_slice(&b"PK\x03\x04"[..length]);
    read(&files::write("checkpoint", &bytes));
}

/// Open the bytes after the first as the pickle of a checkpoint, in the layout that the first byte chooses.
pub fn pickle(data: &[u8]) {
    let Some((&first, pickle)) = data.split_first() else {
        return;
    };
    let mut bytes = Vec::new();
    if first % 2 == 0 {
        // Magic, protocol and system of the layout before 2020; then the objects, the keys and the storages.
        bytes.extend_from_slice(
            b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00.",
        );
        bytes.extend_from_slice(pickle);
        bytes.extend_from_slice(b"\x80\x02]q\x00X\x01\x00\x00\x000a.");
        bytes.extend_from_slice(&64u64.to_le_bytes());
        bytes.extend_from_slice(&[0; 256]);
    } else {
        let mut archive = ZipWriter::new(Cursor::new(&mut bytes));
        for (name, content) in [("a/data.pkl", pickle), ("a/data/0", &[0; 256])] {
            archive
                .start_file(name, SimpleFileOptions::default())
                .expect("an entry");
            archive.write_all(content).expect("an entry");
        }
        archive.finish().expect("an archive");
    }
    read(&files::write("checkpoint", &bytes));
}
