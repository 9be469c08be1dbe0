//! The template of a new plugin: a crate that builds and passes `brillm plugin check`.

use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind, Result};

const LIBRARY: &str = r##"//! @about@

use brillm_plugin::{Answer, Host, Plugin, Result, SampleHook, Setting, Step, export};

/// Options arrive checked against the schema below, with defaults filled in.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    temperature: f32,
}

struct @type@(Options);

impl Plugin for @type@ {
    type Options = Options;

    fn create(options: Options) -> Result<Self> {
        Ok(Self(options))
    }
}

impl SampleHook for @type@ {
    const STEP: bool = true;

    /// Set one temperature for all steps. Change it: the logits can be read and rewritten.
    fn step(
        &mut self,
        _host: &mut Host,
        _step: &Step,
        _logits: &mut [f32],
        setting: &mut Setting,
    ) -> Result<Answer> {
        setting.temperature = Some(self.0.temperature);
        Ok(Answer::Given)
    }
}

export! {
    @type@ {
        id: "org.example.@name@",
        about: "@about@",
        license: "MIT OR Apache-2.0",
        schema: r#"{
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "temperature": {"type": "number", "minimum": 0, "default": 0.8}
            }
        }"#,
        hooks: [SampleHook],
    }
}
"##;

/// Write the crate `name` into `folder/name`. `sdk`: folder of `brillm-plugin`; without one, cargo downloads it.
///
/// # Errors
/// [`ErrorKind::Input`] for an invalid crate name or an existing folder.
pub fn create(name: &str, folder: &Path, sdk: Option<&Path>) -> Result<PathBuf> {
    let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !valid {
        return Err(Error::new(
            ErrorKind::Input,
            format!(
                "invalid name {name:?}: expected lowercase letters, digits and hyphens, beginning with a letter"
            ),
        ));
    }
    let folder = folder.join(name);
    if folder.exists() {
        return Err(Error::new(ErrorKind::Input, "the folder already exists").at(folder.display()));
    }
    let source = folder.join("src");
    std::fs::create_dir_all(&source).map_err(|error| Error::io(error, source.display()))?;
    let dependency = match sdk {
        Some(path) => {
            let path = path
                .canonicalize()
                .map_err(|error| Error::io(error, path.display()))?;
            format!("{{ path = {:?} }}", path.display().to_string())
        }
        None => format!("{:?}", env!("CARGO_PKG_VERSION")),
    };
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[lib]\ncrate-type = [\"cdylib\"]\n\n\
         [dependencies]\nbrillm-plugin = {dependency}\nserde = {{ version = \"1\", features = [\"derive\"] }}\n\n\
         # A workspace of its own; take this line out to make it a member of another.\n[workspace]\n"
    );
    let kind: String = name
        .split('-')
        .map(|word| word[..word.len().min(1)].to_uppercase() + word.get(1..).unwrap_or(""))
        .collect();
    let library = LIBRARY
        .replace("@type@", &kind)
        .replace("@name@", name)
        .replace("@about@", "Samples at one temperature.");
    for (path, text) in [
        (folder.join("Cargo.toml"), manifest),
        (source.join("lib.rs"), library),
    ] {
        brillm_file::write(&path, text).map_err(Error::io_at(&path))?;
    }
    Ok(folder)
}
