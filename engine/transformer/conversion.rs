//! Conversion of models between folders in Hugging Face's layout and GGUF files, and of their number format.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use brillm_file::OutputFile;

use crate::kernel::block_format::Format;
use crate::kernel::bytes::Bytes;
use crate::text::Tokenizer;
use crate::transformer::family::Role;
use crate::transformer::folder;
use crate::transformer::folder_writer;
use crate::transformer::gguf::Gguf;
use crate::transformer::gguf_metadata as metadata_of;
use crate::transformer::gguf_model::{self, Difference, GgufModel, SPECIAL, is_gguf};
use crate::transformer::gguf_writer::{self, Change, Metadata, OutputTensor};
use crate::transformer::network::Loader;
use crate::transformer::weights::StoredTensor;
use crate::transformer::{Configuration, Transformer, Weights, chat_template};
use crate::{Error, ErrorKind, Result};

/// How a model is converted.
#[derive(Clone, Debug, Default)]
pub struct Conversion {
    /// Number format of the matrices: F32, F16, BF16, Q8_0 or Q4_0 [default: as they are stored].
    pub element: Option<Format>,
    /// Name of the model [default: unchanged].
    pub name: Option<String>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// Number of tensors.
    pub tensors: usize,
    /// Bytes of the file, or of the folder's weights.
    pub bytes: u64,
    /// Matrices that are F16 because their rows are not whole blocks.
    pub half: Vec<String>,
    /// Tensors of the source that the model does not use, and that were not written.
    pub left_out: Vec<String>,
    /// Whether a GGUF file got the whole `tokenizer.json`, because other programs may split texts in another way.
    pub tokenizer_json: bool,
}

/// Gets the bytes that are written and those of the whole; an error ends the conversion, and nothing is written.
pub type ConversionProgress<'a> = dyn FnMut(u64, u64) -> Result<()> + 'a;

/// Tensors to write, and what [`Converted`] says about them.
#[derive(Default)]
struct Tensors {
    list: Vec<OutputTensor>,
    half: Vec<String>,
    left_out: Vec<String>,
    tokenizer_json: bool,
}

impl Conversion {
    /// Convert a folder or GGUF file to a file, where `out` ends in `.gguf`, or to a folder.
    ///
    /// # Errors
    /// As [`Transformer::open`]; [`ErrorKind::Unsupported`] for a model or a number format that `out` cannot hold;
    /// [`ErrorKind::Input`] for a folder that has files; [`ErrorKind::Numeric`] for a weight too large for the format;
    /// [`ErrorKind::Io`]; errors of `progress`.
    pub fn run(
        &self,
        source: &Path,
        out: &Path,
        progress: &mut ConversionProgress<'_>,
    ) -> Result<Converted> {
        if let Some(element) = self.element {
            // Refuses formats that are only read.
            element.pack(&[], &mut Vec::new())?;
        }
        let to_file = is_file_name(out);
        if !to_file {
            folder_writer::check(out, self.element)?;
        }
        if source.is_file() && !is_gguf(source) {
            let what = "the file is not a GGUF file";
            return Err(Error::new(ErrorKind::Input, what)
                .at(source.display())
                .advice("convert a folder in Hugging Face's layout or a .gguf file"));
        }
        let in_source = |error: Error| error.at(source.display());
        // The model and what is copied share the memory of a file.
        let file = is_gguf(source).then(|| gguf_model::mapped(source));
        let file = file.transpose()?;
        let (model, left_out) = match &file {
            Some(bytes) => {
                let mut gguf = GgufModel::read(bytes).map_err(in_source)?;
                let left_out = std::mem::take(&mut gguf.left_out);
                (Transformer::of_gguf(source, gguf)?, left_out)
            }
            None => {
                let model = Transformer::open(source)?;
                let left_out = model.weights().unread().cloned().collect();
                (model, left_out)
            }
        };
        if !to_file {
            let special = special(source, file.as_ref(), &model)?;
            let written = folder_writer::write(self, source, out, &model, &special, progress);
            return written
                .map(|written| Converted {
                    left_out,
                    ..written
                })
                .map_err(in_source);
        }
        let (metadata, mut tensors) = match &file {
            Some(bytes) => self.of_file(bytes),
            None => self.of_folder(source, &model),
        }
        .map_err(in_source)?;
        if file.is_none() {
            tensors.left_out.extend(left_out);
        }
        drop(model);
        let header = metadata.header(&tensors.list)?.len() as u64;
        let mut total = header;
        for tensor in &tensors.list {
            total += tensor.length()? as u64;
        }
        let failed = Error::io_at(out);
        let mut file = OutputFile::create(out).map_err(&failed)?;
        let mut bytes = 0;
        gguf_writer::write(&metadata, &tensors.list, |part| {
            file.write_all(part).map_err(&failed)?;
            bytes += part.len() as u64;
            progress(bytes.min(total), total)
        })?;
        file.finish().map_err(failed)?;
        Ok(Converted {
            tensors: tensors.list.len(),
            bytes,
            half: tensors.half,
            left_out: tensors.left_out,
            tokenizer_json: tensors.tokenizer_json,
        })
    }

    /// Copy a GGUF file's metadata and tensors.
    fn of_file(&self, bytes: &Bytes) -> Result<(Metadata, Tensors)> {
        let file = Gguf::parse(bytes)?;
        if let Some((name, format)) = file.unread.iter().next() {
            let what = format!("the tensor is stored as {format}, which is not supported");
            return Err(Error::new(ErrorKind::Unsupported, what).at(name));
        }
        let own_output = file.tensors.contains_key("output.weight");
        let mut tensors = Tensors::default();
        for (name, source) in &file.tensors {
            self.add(&mut tensors, name, source.clone(), Change::None, own_output);
        }
        let mut metadata = Metadata::default();
        // Tensors are aligned as in a file that does not state it.
        let mut replaced = vec!["general.alignment"];
        if self.element.is_some() {
            replaced.extend(["general.file_type", "general.quantization_version"]);
        }
        if self.name.is_some() {
            replaced.push("general.name");
        }
        let kept = file
            .stored
            .iter()
            .filter(|(key, _)| !replaced.contains(*key));
        kept.for_each(|(key, (kind, bytes))| metadata.copy(key, *kind, bytes));
        self.describe(&mut metadata, self.element)?;
        if let Some(name) = &self.name {
            metadata.text("general.name", name);
        }
        Ok((metadata, tensors))
    }

    /// Describe the model of a folder as GGUF files do.
    fn of_folder(&self, source: &Path, model: &Transformer) -> Result<(Metadata, Tensors)> {
        let shape = model.configuration();
        if !model.direction().is_forward() {
            let what = "a GGUF file cannot hold a model that reads from right to left";
            return Err(Error::new(ErrorKind::Unsupported, what).advice("convert to a folder"));
        }
        let mut metadata = Metadata::default();
        metadata_of::add_settings(&mut metadata, shape)?;
        metadata.text("general.name", self.name.as_deref().unwrap_or(model.name()));
        let mut tensors = self.tensors(shape, model.weights())?;
        let embedding = tensors
            .list
            .iter()
            .find(|tensor| tensor.name == "token_embd.weight");
        let stored = embedding.map(|tensor| tensor.format);
        self.describe(&mut metadata, self.element.or(stored))?;
        tensors.list.extend(metadata_of::rotary_tensors(shape)?);
        let special = special(source, None, model)?;
        let vocabulary = model.tokenizer().to_gguf(shape.vocabulary, &special)?;
        tensors.tokenizer_json = vocabulary.huggingface.is_some();
        let ends = ends(model);
        metadata_of::add_vocabulary(&mut metadata, &vocabulary, &ends)?;
        if let Some(template) = model.chat_template() {
            metadata.text("tokenizer.chat_template", template.source());
        }
        metadata_of::check(shape, &metadata, &tensors.list)?;
        Ok((metadata, tensors))
    }

    /// Add the number format of most tensors, as llama.cpp numbers it.
    fn describe(&self, metadata: &mut Metadata, format: Option<Format>) -> Result<()> {
        let number = match format {
            Some(Format::F32) => 0,
            Some(Format::F16) => 1,
            Some(Format::Q4_0) => 2,
            Some(Format::Q8_0) => 7,
            Some(Format::Bf16) => 32,
            _ => return Ok(()),
        };
        metadata.integer("general.file_type", number)?;
        if format.is_some_and(|format| !format.is_float()) {
            metadata.integer("general.quantization_version", 2)?;
        }
        Ok(())
    }

    /// Name the weights of a folder as GGUF files do.
    fn tensors(&self, shape: &Configuration, weights: &Weights) -> Result<Tensors> {
        let loader = Loader::new(shape, weights);
        let mut used = BTreeSet::new();
        let mut tensors = Tensors::default();
        let own_output = !shape.tied;
        for (role, layer) in gguf_model::modules(shape) {
            let mut path = loader.path(role, layer)?;
            if role == Role::TokenEmbedding && !weights.has(&format!("{path}.weight")) {
                // Of tied matrices a file may hold that of the head alone.
                path = loader.path(Role::Head, layer)?;
            }
            // Old BERT files name gain and bias gamma and beta.
            for (kind, names) in [("weight", ["weight", "gamma"]), ("bias", ["bias", "beta"])] {
                let names = names.map(|name| format!("{path}.{name}"));
                let found = weights
                    .stored()
                    .find(|(name, ..)| names.iter().any(|one| one == name));
                let Some((name, dimensions, matrix)) = found else {
                    continue;
                };
                used.insert(name.to_string());
                if matches!(role, Role::HeadTransform | Role::HeadNorm | Role::HeadBias) {
                    let what = "a GGUF file cannot hold the head that predicts masked tokens: other programs refuse it";
                    return Err(Error::new(ErrorKind::Unsupported, what)
                        .at(name)
                        .advice("convert to a folder instead"));
                }
                let Some(module) = gguf_model::module(shape.family(), role, layer) else {
                    let what = "a GGUF file has no name for this tensor";
                    return Err(Error::new(ErrorKind::Unsupported, what).at(name));
                };
                let to = format!("{module}.{kind}");
                let tied = role == Role::Head && kind == "weight" && shape.tied;
                // BERT's output bias may be stored twice.
                if tied || tensors.list.iter().any(|tensor| tensor.name == to) {
                    continue;
                }
                let change = match gguf_model::difference(role, shape, dimensions) {
                    Difference::None => Change::None,
                    Difference::Rows(rows) => Change::Rows(inverse(&rows)),
                    Difference::Transposed => Change::Transposed,
                    Difference::Added(offset) => Change::Added(offset),
                };
                let source = StoredTensor {
                    shape: dimensions.to_vec(),
                    matrix: matrix.clone(),
                };
                self.add(&mut tensors, &to, source, change, own_output);
            }
        }
        let names = weights.stored().map(|(name, ..)| name.to_string());
        tensors.left_out = names.filter(|name| !used.contains(name)).collect();
        Ok(tensors)
    }

    /// Add a tensor of a GGUF file in the format that it gets. `own_output` says that the output matrix is not the token
    /// embedding.
    fn add(
        &self,
        tensors: &mut Tensors,
        name: &str,
        source: StoredTensor,
        change: Change,
        own_output: bool,
    ) {
        let mut tensor = OutputTensor {
            name: name.into(),
            format: self.element.unwrap_or(source.matrix.format()),
            source,
            change,
        };
        let output = if own_output {
            "output.weight"
        } else {
            "token_embd.weight"
        };
        // What is added instead of multiplied costs little.
        let added = ["position_embd.weight", "token_types.weight"].contains(&name);
        if tensor.source.shape.len() < 2 || added {
            tensor.format = Format::F32;
        } else if name == output && tensor.format == Format::Q4_0 {
            // Logits need more precision than what precedes them.
            tensor.format = Format::Q8_0;
        }
        if tensor.length().is_err() {
            tensor.format = Format::F16;
            tensors.half.push(name.into());
        }
        tensors.list.push(tensor);
    }
}

/// Return whether a name is that of a GGUF file.
pub(crate) fn is_file_name(path: &Path) -> bool {
    let ending = path.extension();
    ending.is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
}

/// Return the order that undoes an order.
fn inverse(order: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; order.len()];
    for (row, &from) in order.iter().enumerate() {
        inverse[from] = row;
    }
    inverse
}

/// Return the ids that end a text, that of the tokenizer first.
pub(super) fn ends(model: &Transformer) -> Vec<u32> {
    let mut ends = model.stop_tokens();
    let first = model.tokenizer().vocabulary().stop();
    ends.sort_by_key(|id| Some(*id) != first);
    ends
}

/// Special tokens of WordPiece, which its vocabularies have under these names.
const PIECES: [(&str, &str); 4] = [
    ("sep_token", "[SEP]"),
    ("cls_token", "[CLS]"),
    ("pad_token", "[PAD]"),
    ("mask_token", "[MASK]"),
];

/// Return the ids of a model's special tokens by Hugging Face's keys. `file`: that of a GGUF file.
fn special(
    source: &Path,
    file: Option<&Bytes>,
    model: &Transformer,
) -> Result<Vec<(&'static str, u32)>> {
    let tokenizer: &Tokenizer = model.tokenizer();
    let shape = model.configuration();
    let mut settings = Vec::new();
    if file.is_none() {
        for name in [chat_template::SETTINGS, "special_tokens_map.json"] {
            settings.extend(folder::object(source, name)?);
        }
    }
    let file = file.map(Gguf::parse).transpose()?;
    let mut special = Vec::new();
    for (key, of) in SPECIAL {
        let in_file = match &file {
            Some(file) => file.integer(&format!("tokenizer.ggml.{of}_token_id"))?,
            None => None,
        };
        let named = settings.iter().find_map(|(_, map)| {
            let value = map.get(key)?;
            let text = value.as_str().or_else(|| value["content"].as_str())?;
            tokenizer.vocabulary().id(text)
        });
        let known = match key {
            "bos_token" => tokenizer.frame().0.first().copied().or(shape.begin),
            "eos_token" => ends(model).first().copied(),
            "unk_token" => tokenizer.vocabulary().unknown(),
            "mask_token" => shape.mask,
            "pad_token" => shape.json["pad_token_id"].as_u64().map(|id| id as u32),
            _ => None,
        };
        let piece = PIECES.iter().find(|(of, _)| *of == key);
        let piece = piece.and_then(|(_, text)| tokenizer.vocabulary().id(text));
        let known = known.or(piece);
        let fixed = matches!(key, "bos_token" | "eos_token");
        let in_file = in_file.and_then(|id| u32::try_from(id).ok());
        let first = if fixed { known } else { None };
        if let Some(id) = first.or(in_file).or(named).or(known) {
            special.push((key, id));
        }
    }
    Ok(special)
}
