//! The files of a run's sources: opened, identified by checksum, and watched for changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::learn::recipe::{Data, Recipe, TokenKind};
use crate::modality::{MediaFile, Modality};
use crate::model::sha256::{sha256, sha256_of};
use crate::text::{Corpus, SkippedFiles};
use crate::{Error, ErrorKind, Result};

/// Open sources of the recipe as a corpus whose records may have images and sounds; [`Corpus::with_codecs`] encodes them.
pub(super) fn open(data: &Data, base: &Path, sources: &[String]) -> Result<Corpus> {
    let paths: Vec<PathBuf> = sources
        .iter()
        .map(|source| Recipe::resolve(base, source))
        .collect();
    Ok(Corpus::open(&paths, data.corpus_options(base))?.with_media(data.media()))
}

/// The files of all sources, with their sizes and times.
#[derive(Default)]
pub(super) struct SourceFiles {
    files: Vec<(PathBuf, u64, Option<std::time::SystemTime>)>,
    /// Files that were skipped, without those of the run itself.
    pub(super) skipped: SkippedFiles,
}

impl SourceFiles {
    /// Find the regular files for the run in `folder`; standard input and pipes are left out.
    pub(super) fn find(data: &Data, base: &Path, folder: &Path) -> Result<Self> {
        let mut found = Self::default();
        for sources in [&data.train, &data.validation] {
            if sources.is_empty() {
                continue;
            }
            let corpus = open(data, base, sources)?;
            found.skipped += corpus.skipped(Some(folder));
            for path in corpus.files().filter(|path| path.as_os_str() != "-") {
                let meta = path.metadata().map_err(Error::io_at(path))?;
                if meta.is_file() {
                    found
                        .files
                        .push((path.to_path_buf(), meta.len(), meta.modified().ok()));
                }
            }
        }
        Ok(found)
    }

    /// Check that the sources are what they were before they were read, because they are read more than once.
    pub(super) fn check_unchanged(&self, data: &Data, base: &Path, folder: &Path) -> Result<()> {
        let now = Self::find(data, base, folder)?;
        if now.files == self.files {
            return Ok(());
        }
        let changed = self.files.iter().find(|file| !now.files.contains(file));
        let changed = changed.or_else(|| now.files.iter().find(|file| !self.files.contains(file)));
        let error = Error::new(ErrorKind::Input, "the source changed while it was read");
        let error = error.advice("start again when nothing writes to it");
        Err(match changed {
            Some((path, ..)) => error.at(path.display()),
            None => error,
        })
    }

    /// Return the images and sounds that the records of the files name.
    fn media(&self, data: &Data, base: &Path) -> Result<Vec<MediaFile>> {
        if data.media().is_empty() || data.tokens == TokenKind::Ids || self.files.is_empty() {
            return Ok(Vec::new());
        }
        let paths: Vec<&Path> = self.files.iter().map(|(path, ..)| path.as_path()).collect();
        let corpus = Corpus::open(&paths, data.corpus_options(base))?;
        corpus.with_media(data.media()).media_files()
    }

    /// Compute the sha256 of every file, and of the images and the sounds that records name, and compare them with those of the
    /// recipe.
    pub(super) fn checksums(&self, data: &Data, base: &Path) -> Result<BTreeMap<String, String>> {
        let mut sums = BTreeMap::new();
        for (file, ..) in &self.files {
            let name = file.strip_prefix(base).unwrap_or(file);
            sums.insert(name.to_string_lossy().into_owned(), sha256(file)?);
        }
        let media = self.media(data, base)?;
        for modality in data.media() {
            let files = media.iter().filter(|file| file.modality == modality);
            sums.insert(media_name(modality), media_sum(files, base)?);
        }
        for (name, wanted) in &data.sha256 {
            let found = sums.get(name).ok_or_else(|| {
                let what = format!("data.sha256 names {name:?}, which is not among the sources");
                Error::new(ErrorKind::Configuration, what)
                    .advice("name sources as data.train and data.validation find them")
            })?;
            if !found.eq_ignore_ascii_case(wanted) {
                return Err(Error::new(
                    ErrorKind::Checksum,
                    format!("expected sha256 {wanted}, found {found}"),
                )
                .at(base.join(name).display())
                .advice("use the source with this checksum, or correct data.sha256"));
            }
        }
        Ok(sums)
    }
}

/// The name of the images or of the sounds in `data.sha256`: `image files`, `audio files`.
fn media_name(modality: Modality) -> String {
    format!("{} files", modality.name())
}

/// Compute the sha256 over files as over the output of `sha256sum`: a line `SUM  PATH` for each, in the order of their paths.
fn media_sum<'a>(files: impl Iterator<Item = &'a MediaFile>, base: &Path) -> Result<String> {
    use rayon::prelude::*;
    let relative = |file: &'a MediaFile| {
        let name = file.path.strip_prefix(base).unwrap_or(&file.path);
        (name.to_string_lossy().into_owned(), file)
    };
    // Records may share a file.
    let files: BTreeMap<String, &MediaFile> = files.map(relative).collect();
    let files: Vec<_> = files.into_iter().collect();
    let line = |(name, file): &(String, &MediaFile)| {
        // A device or a pipe would never end.
        let sum =
            crate::modality::files::check_regular(&file.path).and_then(|_| sha256(&file.path));
        let sum = sum.map_err(|error| error.at(&file.location))?;
        Ok(format!("{sum}  {name}\n"))
    };
    let lines = files
        .par_iter()
        .map(line)
        .collect::<Result<Vec<String>>>()?;
    Ok(sha256_of(lines.concat().as_bytes()))
}
