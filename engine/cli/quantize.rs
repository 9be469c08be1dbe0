//! `brillm quantize`: store a model's weights in fewer bytes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::kernel::element::Element;
use crate::{Error, ErrorKind, Result};

/// Store the weights of a model in another number format.
///
/// A .bril file gets f32, f16 or i8. A transformer (a folder in Hugging Face's layout or a .gguf file) is written as a .gguf
/// file with q8_0, q4_0, f16, bf16 or f32, as by `brillm convert`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm quantize model.bril --element i8 --out model-i8.bril
  brillm quantize FOLDER --element q8_0 --out model-q8_0.gguf")]
pub(super) struct Arguments {
    /// Model to read: a .bril file, a folder in Hugging Face's layout or a .gguf file.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Number format of the weights.
    #[arg(long, value_enum, value_name = "FORMAT")]
    element: Storage,
    /// Model to write: a .bril file, or a .gguf file for a transformer.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// New name of the model [default: unchanged].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Number formats that weights can be stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Storage {
    F32,
    F16,
    /// Transformers only: the range of f32 with 8 bits of precision.
    Bf16,
    /// Graphs only: int8 with one scale for each row.
    #[value(alias = "int8")]
    I8,
    /// Transformers only: int8 with one scale for each 32 weights.
    #[value(name = "q8_0", alias = "q8-0")]
    Q8_0,
    /// Transformers only: 4 bits with one scale for each 32 weights.
    #[value(name = "q4_0", alias = "q4-0")]
    Q4_0,
}

impl Storage {
    fn refused(self, model: &str, advice: &str) -> Error {
        let name = self.to_possible_value();
        let name = name.as_ref().map_or("", |value| value.get_name());
        let what = format!("{model} cannot be stored as {name}");
        Error::new(ErrorKind::Input, what)
            .at("--element")
            .advice(advice)
    }

    /// Return the element type of a graph.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a format of transformers.
    fn element(self) -> Result<Element> {
        match self {
            Self::F32 => Ok(Element::F32),
            Self::F16 => Ok(Element::F16),
            Self::I8 => Ok(Element::I8),
            Self::Bf16 | Self::Q8_0 | Self::Q4_0 => {
                Err(self.refused("a graph", "pass f32, f16 or i8"))
            }
        }
    }

    /// Return the format of a transformer's matrices.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a format of graphs.
    #[cfg(feature = "transformer")]
    pub(super) fn format(self) -> Result<crate::kernel::block_format::Format> {
        use crate::kernel::block_format::Format;
        match self {
            Self::F32 => Ok(Format::F32),
            Self::F16 => Ok(Format::F16),
            Self::Bf16 => Ok(Format::Bf16),
            Self::Q8_0 => Ok(Format::Q8_0),
            Self::Q4_0 => Ok(Format::Q4_0),
            Self::I8 => Err(self.refused("a transformer", "pass q8_0, q4_0, f16, bf16 or f32")),
        }
    }
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        // Before formats are checked, which depend on what the model is.
        std::fs::metadata(&self.model).map_err(Error::io_at(&self.model))?;
        #[cfg(feature = "transformer")]
        if crate::run::Engine::is_transformer(&self.model) {
            return self.transformer();
        }
        let element = self.element.element()?;
        if self
            .out
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
        {
            let what = "a graph cannot be written as a GGUF file";
            return Err(Error::new(ErrorKind::Input, what)
                .at(self.out.display())
                .advice("let --out end in .bril"));
        }
        let size = |path: &PathBuf| std::fs::metadata(path).map(|meta| meta.len()).unwrap_or(0);
        // The output may take the place of the source.
        let before = size(&self.model);
        let model = super::open_whole(&self.model)?
            .graph()?
            .quantized(element)?;
        let name = self.name.clone();
        model
            .described(|metadata| metadata.name = name.unwrap_or(metadata.name.clone()))
            .save(&self.out)?;
        let after = size(&self.out);
        if self.json {
            return super::say_json(&serde_json::json!({
                "model": self.out.display().to_string(), "bytes_before": before, "bytes": after,
            }));
        }
        super::say(format!(
            "{}: {after} bytes (was {before})",
            self.out.display()
        ))
    }

    #[cfg(feature = "transformer")]
    fn transformer(self) -> Result<()> {
        let format = self.element.format()?;
        if !self
            .out
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
        {
            let what = "a quantised transformer is written as a GGUF file";
            return Err(Error::new(ErrorKind::Input, what)
                .at(self.out.display())
                .advice("let --out end in .gguf; brillm convert writes folders"));
        }
        let conversion = crate::transformer::Conversion {
            element: Some(format),
            name: self.name,
        };
        super::convert::convert(&conversion, &self.model, &self.out, self.json)
    }
}
