//! What a training run is given: a run file, or texts, for which a run file is written.

use std::path::{Component, Path, PathBuf};

use crate::learn::recipe::map_paths;
use crate::learn::{CorpusSize, Recipe, Trainer, kept_changes};
use crate::run::shell::quoted;
use crate::{Error, ErrorKind, Result};

/// Name of the run file that a run of a text has in its folder.
const RUN_FILE: &str = "run.toml";
/// Largest file without the extension `.toml` that is looked at as a run file.
const LARGEST: u64 = 1 << 20;

/// A recipe with the folders it works with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PreparedSource {
    /// The recipe.
    pub recipe: Recipe,
    /// Folder that the paths of the recipe are relative to.
    pub base: PathBuf,
    /// Folder of the run.
    pub folder: PathBuf,
    /// The run file.
    pub run_file: PathBuf,
    /// Changes of the run file that the recipe contains.
    pub changes: Vec<String>,
    /// The first words of the text, if it was measured.
    pub opening: Option<String>,
}

/// Arguments that decide what is trained and where.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrainSource<'a> {
    /// Texts (files, folders or globs), or one run file.
    pub sources: &'a [PathBuf],
    /// Changes of keys of the run file, `KEY=VALUE`.
    pub changes: &'a [String],
    /// Folder that paths in the run file are relative to; that of the run file by default.
    pub data: Option<&'a Path>,
    /// Folder of the run; `runs/NAME` by default.
    pub out: Option<&'a Path>,
    /// Whether to continue a run that the folder contains.
    pub resume: bool,
}

/// Receives what is chosen for the caller, a line at a time.
type Say<'a> = &'a mut dyn FnMut(&str);

impl TrainSource<'_> {
    /// Read the run file, or choose settings for the texts and write them as a run file into the folder of the run. `say`
    /// receives what was chosen.
    ///
    /// # Errors
    /// Errors of the run file and of the texts; [`ErrorKind::Input`] for run files and texts mixed.
    pub fn prepare(&self, say: &mut dyn FnMut(&str)) -> Result<PreparedSource> {
        if let [file] = self.sources
            && is_run_file(file)?
        {
            return self.run_file(file, self.changes, say);
        }
        if let Some(file) = self.sources.iter().find(|path| has_extension(path, "toml")) {
            let what = "a run file cannot be trained together with other sources";
            return Err(Error::new(ErrorKind::Input, what)
                .at(file.display())
                .advice(
                    "name one run file, or texts; data.train of a run file lists several texts",
                ));
        }
        if self.data.is_some() {
            return Err(Error::new(ErrorKind::Input, "--data applies to a run file")
                .advice("name the texts with their paths"));
        }
        self.text(say)
    }

    fn run_file(&self, file: &Path, changes: &[String], say: Say<'_>) -> Result<PreparedSource> {
        let own = file.parent().unwrap_or(Path::new("")).to_path_buf();
        let read =
            |changes: &[String]| Recipe::open(file, changes).map_err(|error| explain(error, file));
        let mut changes = changes.to_vec();
        let mut recipe = read(&changes)?;
        let of_run =
            Trainer::has_begun(&own) && file.file_name().is_some_and(|name| name == RUN_FILE);
        let folder = match self.out {
            Some(out) => out.to_path_buf(),
            None if of_run && self.resume => own.clone(),
            None if of_run => next_free(&own, say),
            None => Path::new("runs").join(&recipe.name),
        };
        if self.resume && Trainer::has_begun(&folder) {
            let kept = kept_changes(&folder, file)?;
            if !kept.is_empty() {
                say(&format!(
                    "settings of the earlier start: {}",
                    kept.join(", ")
                ));
                changes = [kept, changes].concat();
                recipe = read(&changes)?;
            }
        }
        Ok(PreparedSource {
            recipe,
            base: self.data.map_or(own, Path::to_path_buf),
            folder,
            run_file: file.to_path_buf(),
            changes,
            opening: None,
        })
    }

    fn text(&self, say: Say<'_>) -> Result<PreparedSource> {
        // What the corpus is read with, and the kind of model, decide what is chosen for them.
        let given = Recipe::of_changes(self.changes)?;
        let name = name_of(self.sources);
        let default = Path::new("runs").join(&name);
        let folder = match self.out {
            Some(out) => out.to_path_buf(),
            None if self.resume => default,
            None => next_free(&default, say),
        };
        let run_file = folder.join(RUN_FILE);
        let changes = self.changes_in(&folder)?;
        if self.resume && run_file.exists() {
            return self.run_file(&run_file, &changes, say);
        }
        if Trainer::has_begun(&folder) {
            return Err(Error::new(
                ErrorKind::Configuration,
                "the folder already contains a run",
            )
            .at(folder.display())
            .advice("pass --resume to continue it, or another --out"));
        }
        let once = |path: &&PathBuf| {
            path.as_os_str() == "-" || path.exists() && !path.is_file() && !path.is_dir()
        };
        if let Some(path) = self.sources.iter().find(once) {
            let what =
                "training reads its text more than once, and this source can be read only once";
            return Err(Error::new(ErrorKind::Input, what)
                .at(path.display())
                .advice("save the text to a file first"));
        }
        let size = CorpusSize::measure(self.sources, given.data.corpus_options(Path::new("")))?;
        let sources = self
            .sources
            .iter()
            .map(|path| relative(path, &folder))
            .collect::<Result<Vec<String>>>()?;
        let recipe = Recipe::for_text(&name, sources, &size, &given)?;
        let heading = format!(
            "Written by `brillm train` for a text of {} bytes.\nChange it and repeat with: brillm train {}",
            size.bytes,
            quoted(&run_file)
        );
        let text = recipe.to_run_file(&heading)?;
        // The changes of --set become part of the run file.
        let recipe = Recipe::parse(&text, &changes)?;
        std::fs::create_dir_all(&folder).map_err(Error::io_at(&folder))?;
        let text = recipe.to_run_file(&heading)?;
        // The same file is that of a start that failed.
        if run_file.exists()
            && !std::fs::read(&run_file).is_ok_and(|found| found == text.as_bytes())
        {
            return Err(Error::new(
                ErrorKind::Configuration,
                "the folder already contains another run file",
            )
            .at(run_file.display())
            .advice("train with it, delete it, or pass another --out"));
        }
        brillm_file::write(&run_file, text).map_err(Error::io_at(&run_file))?;
        describe_plan(&size, &recipe, &run_file, say);
        Ok(PreparedSource {
            recipe,
            base: folder.clone(),
            folder,
            run_file,
            changes: Vec::new(),
            opening: Some(size.opening).filter(|opening| !opening.is_empty()),
        })
    }

    /// The changes with paths relative to `folder`, as in its run file; on the command line, they are relative to the
    /// current folder.
    fn changes_in(&self, folder: &Path) -> Result<Vec<String>> {
        let rebase = |path: &Path| {
            // A mistake is reported before a run file is written. A run that is resumed has read its sources.
            if !self.resume && !path.to_string_lossy().contains(['*', '?', '[']) {
                path.metadata().map_err(Error::io_at(path))?;
            }
            match path.is_absolute() {
                true => Ok(path.to_string_lossy().into_owned()),
                false => relative(path, folder),
            }
        };
        let changes = self.changes.iter();
        changes.map(|change| map_paths(change, &rebase)).collect()
    }
}

/// Return `folder`, or, if it contains a run, the first of `folder-2`, `folder-3`, … that does not.
fn next_free(folder: &Path, say: Say<'_>) -> PathBuf {
    if !Trainer::has_begun(folder) {
        return folder.to_path_buf();
    }
    let name = |count: usize| {
        let mut name = folder.as_os_str().to_os_string();
        name.push(format!("-{count}"));
        PathBuf::from(name)
    };
    let free = (2..).map(name).find(|path| !Trainer::has_begun(path));
    let free = free.expect("some number is free");
    let (old, new) = (folder.display(), free.display());
    say(&format!(
        "{old} already contains a run (--resume continues it); this one is written to {new}"
    ));
    free
}

/// Describe the sizes that were chosen for a text.
fn describe_plan(size: &CorpusSize, recipe: &Recipe, run_file: &Path, say: Say<'_>) {
    let train = &recipe.train;
    let count = |count: u64, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    say(&format!(
        "text: {} bytes in {}{}",
        size.bytes,
        count(size.files as u64, "file"),
        match size.skipped.total() {
            0 => String::new(),
            _ => format!(" ({} skipped)", size.skipped),
        }
    ));
    let sizes: String = ["preset", "width", "layers"]
        .iter()
        .filter_map(|&key| Some((key, recipe.profile.get(key)?)))
        .map(|(key, value)| format!(", {key} {value}"))
        .collect();
    say(&format!(
        "settings: vocabulary {}{sizes}, order {}, {} training tokens, batches of {} × {}",
        recipe.data.vocabulary, recipe.graph.order, train.tokens, train.batch, train.steps
    ));
    if !recipe.data.validation.is_empty() {
        say(&format!(
            "validation: {}, every {} steps",
            recipe.data.validation.join(", "),
            train.validate_every
        ));
    } else if recipe.data.validation_fraction > 0.0 {
        let percent = recipe.data.validation_fraction * 100.0;
        say(&format!(
            "validation: {percent:.1} % of the text, every {} steps",
            train.validate_every
        ));
    } else {
        say("validation: none, because the text is too short to hold some of it out");
    }
    say(&format!(
        "run file: {} (change it and train again)",
        run_file.display()
    ));
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// Whether a source is a run file: by its extension, or, for a small file of another extension, by its content.
fn is_run_file(path: &Path) -> Result<bool> {
    if has_extension(path, "toml") && !path.is_dir() {
        return Ok(true);
    }
    if Trainer::has_begun(path) {
        let (what, file) = ("the folder is a run, not a corpus", path.join(RUN_FILE));
        let advice = if file.exists() {
            format!("continue it with: brillm train {} --resume", quoted(&file))
        } else {
            format!(
                "continue it with its run file, --out {} and --resume",
                quoted(path)
            )
        };
        return Err(Error::new(ErrorKind::Input, what)
            .at(path.display())
            .advice(advice));
    }
    if !path
        .metadata()
        .is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST)
    {
        return Ok(false);
    }
    let Ok(text) = crate::text::read_text(path) else {
        // Reading it as a corpus reports what is wrong.
        return Ok(false);
    };
    if crate::text::is_run_record(&text) {
        return Err(Error::new(
            ErrorKind::Input,
            "the file is the record of a run, not a text",
        )
        .at(path.display())
        .advice("name the run file (.toml)"));
    }
    let table = text.parse::<toml::Table>();
    Ok(table.is_ok_and(|table| table.get("data").is_some_and(toml::Value::is_table)))
}

/// Add advice to the error of a `.toml` file that looks like a text or has no sources.
fn explain(error: Error, file: &Path) -> Error {
    let text = crate::text::read_text(file).unwrap_or_default();
    if text.is_empty()
        || text
            .lines()
            .any(|line| line.trim_start().starts_with("[data"))
    {
        return error;
    }
    error.advice(
        "a run file has a [data] section, and `brillm init` writes one; to train on the file as text, rename it to .txt",
    )
}

/// The name of a model: of the only source, without extensions, in letters that suit a folder name.
fn name_of(sources: &[PathBuf]) -> String {
    let [source] = sources else {
        return "texts".into();
    };
    // `.` and `..` have the name of the folder that they mean.
    let named = match source.file_name() {
        Some(_) => source.clone(),
        None => source.canonicalize().unwrap_or_else(|_| source.clone()),
    };
    // Of a pattern, the last part without wildcards.
    let mut parts = named.iter().rev().map(|part| part.to_string_lossy());
    let name = parts.find(|part| source.exists() || !part.contains(['*', '?', '[']));
    let name = name.unwrap_or_default();
    let stem = name
        .split('.')
        .find(|part| !part.is_empty())
        .unwrap_or_default();
    let letters: String = stem
        .chars()
        .map(|one| {
            if one.is_alphanumeric() || "-_".contains(one) {
                one
            } else {
                '-'
            }
        })
        .collect();
    match letters.trim_matches('-') {
        "" => "text".into(),
        name => name.into(),
    }
}

/// Resolve a path without links and `..`, which the system resolves after links. Parts that do not exist stay.
fn resolved(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).map_err(Error::io_at(path))?;
    let real = path.ancestors().find_map(|part| {
        let rest = path.strip_prefix(part).ok()?;
        Some(part.canonicalize().ok()?.join(rest))
    });
    Ok(real.unwrap_or(path))
}

/// Write a path relative to a folder, as a run file in it names it.
fn relative(path: &Path, folder: &Path) -> Result<String> {
    // The source itself may be a link, which stays.
    let source = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !parent.as_os_str().is_empty() => {
            resolved(parent)?.join(name)
        }
        (Some(_), Some(name)) => resolved(Path::new("."))?.join(name),
        _ => resolved(path)?,
    };
    let (path, folder) = (source, resolved(folder)?);
    let same = path.components().zip(folder.components());
    let same = same.take_while(|(one, other)| one == other).count();
    let mut result = PathBuf::new();
    if same == 0 {
        result.push(&path);
    } else {
        result.extend(folder.components().skip(same).map(|_| Component::ParentDir));
        result.extend(path.components().skip(same));
    }
    result.to_str().map(String::from).ok_or_else(|| {
        Error::new(
            ErrorKind::Input,
            "the path is not UTF-8, and a run file cannot name it",
        )
        .at(path.display())
        .advice("rename it, or train on its folder")
    })
}
