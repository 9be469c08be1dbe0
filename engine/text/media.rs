//! Images and sounds as tokens of a vocabulary.

use std::borrow::Cow;
use std::path::Path;

use tokenizers::AddedToken;

use crate::modality::{Codecs, Image, Modality, Sound};
use crate::text::tokenizer::{Kind, Stored};
use crate::text::{Corpus, CorpusOptions, Tokenizer};
use crate::{Error, ErrorKind, Result};

/// The tokens of a modality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModalityTokens {
    /// The token before the codes.
    pub begin: u32,
    /// The token after the codes.
    pub end: u32,
    /// The token of each code.
    pub codes: Vec<u32>,
}

impl Tokenizer {
    /// Open texts with the images and sounds for which the vocabulary has codecs.
    ///
    /// # Errors
    /// As [`Corpus::open`].
    pub fn corpus<S: AsRef<Path>>(&self, sources: &[S]) -> Result<Corpus> {
        let corpus = Corpus::open(sources, CorpusOptions::default())?;
        Ok(match self.codecs() {
            Some(codecs) => corpus.with_codecs(codecs),
            None => corpus,
        })
    }

    /// Add special tokens such as `<l2r>`; existing ones are kept.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for pieces with scores.
    pub fn with_marks(self, marks: &[&str]) -> Result<Self> {
        let new: Vec<String> = marks
            .iter()
            .filter(|mark| self.vocabulary.id(mark).is_none())
            .map(|mark| mark.to_string())
            .collect();
        if new.is_empty() {
            return Ok(self);
        }
        let mut tokens = self.token_names();
        let codecs = self.vocabulary.codecs.clone();
        let extended = match self.kind {
            Kind::Pipeline(mut pipeline) => {
                let marks = new.into_iter().map(|mark| AddedToken::from(mark, true));
                pipeline.add_tokens(marks.collect())?;
                Self::of_pipeline(*pipeline)
            }
            Kind::Characters | Kind::Pieces { .. } => {
                tokens.extend(new);
                Self::from_stored(match self.kind {
                    Kind::Characters => Stored::Characters { tokens },
                    _ => Stored::Pieces { tokens },
                })
            }
            Kind::Scored(_) | Kind::Ids => Err(Error::new(
                ErrorKind::Unsupported,
                "this kind of vocabulary cannot be extended with special tokens",
            )
            .advice("use characters or byte pairs")),
        };
        extended.map(|mut tokenizer| {
            tokenizer.vocabulary.codecs = codecs;
            tokenizer
        })
    }

    /// Add the tokens of codecs: the begin, the end and the codes of each modality.
    ///
    /// ```
    /// use brillm::modality::{Codecs, MediaFile, Modality};
    /// use brillm::text::Tokenizer;
    /// # let folder = std::env::temp_dir().join(format!("brillm-codecs-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # let path = folder.join("a.pgm");
    /// std::fs::write(&path, b"P5 4 2 255 \x00\x00\xff\xff\x00\x00\xff\xff")?;
    /// let file = MediaFile { modality: Modality::Image, path: path.clone(), location: String::new() };
    /// let codecs = Codecs::learn(&[file], Some(&Default::default()), None, 0)?;
    /// let tokenizer = Tokenizer::train_characters(["a".to_string()].into_iter(), 300)?.with_codecs(codecs)?;
    /// let ids = tokenizer.encode_file(Modality::Image, &path)?;
    /// assert_eq!(ids.len(), 4); // begin, two patches, end
    /// assert_eq!(tokenizer.decode_image(&ids)?.pixels[..4], [0, 0, 255, 255]);
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::with_marks`].
    pub fn with_codecs(self, codecs: Codecs) -> Result<Self> {
        let marks = codecs.marks();
        let marks: Vec<&str> = marks.iter().map(String::as_str).collect();
        let mut tokenizer = self.with_marks(&marks)?;
        tokenizer.vocabulary.codecs = (!codecs.is_empty()).then(|| codecs.into());
        Ok(tokenizer)
    }

    /// Attach the codecs of a stored tokenizer.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for damaged codecs and for a vocabulary without their tokens.
    pub(super) fn with_stored_codecs(mut self, codecs: Codecs) -> Result<Self> {
        codecs.check()?;
        let lacks = |mark: &String| self.vocabulary().id(mark).is_none();
        if let Some(mark) = codecs.marks().into_iter().find(lacks) {
            return Err(Error::new(
                ErrorKind::Format,
                format!("the vocabulary lacks the token {mark:?} of its codecs"),
            ));
        }
        self.vocabulary.codecs = Some(codecs.into());
        Ok(self)
    }

    /// Encode a text that may contain the names of tokens of modalities.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub(super) fn encode_around_marks(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        // Text around names that the vocabulary lacks stays one text.
        let mut plain = String::new();
        for (text, name) in Modality::pieces(text) {
            plain.push_str(text);
            match self.vocabulary().id(name).filter(|_| !name.is_empty()) {
                Some(id) => {
                    ids.extend(self.encode_text(&plain)?);
                    ids.push(id);
                    plain.clear();
                }
                None => plain.push_str(name),
            }
        }
        ids.extend(self.encode_text(&plain)?);
        Ok(ids)
    }

    /// Return the text of a document without the names of tokens of modalities that the vocabulary has.
    pub(super) fn plain_text<'a>(&self, document: &'a str) -> Cow<'a, str> {
        if self.codecs().is_none() || !Modality::in_text(document) {
            return Cow::Borrowed(document);
        }
        let pieces = Modality::pieces(document).map(|(text, _)| text);
        Cow::Owned(pieces.collect())
    }

    /// Return the bytes of a document's text: those of its images and sounds do not count.
    pub(crate) fn text_bytes(&self, document: &str) -> usize {
        self.plain_text(document).len()
    }

    /// Return the tokens of a modality.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a vocabulary without the modality.
    pub fn modality_tokens(&self, modality: Modality) -> Result<ModalityTokens> {
        let count = self.codecs().and_then(|codecs| codecs.codes(modality));
        let count = count.ok_or_else(|| modality.missing())?;
        let id = |mark: String| {
            let id = self.vocabulary().id(&mark);
            id.ok_or_else(|| {
                Error::new(
                    ErrorKind::Vocabulary,
                    format!("the vocabulary has no {mark}"),
                )
            })
        };
        Ok(ModalityTokens {
            begin: id(modality.begin())?,
            end: id(modality.end())?,
            codes: (0..count)
                .map(|code| id(modality.code(code)))
                .collect::<Result<_>>()?,
        })
    }

    /// Return the codecs.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a vocabulary without the modality.
    fn codecs_for(&self, modality: Modality) -> Result<&Codecs> {
        self.codecs().ok_or_else(|| modality.missing())
    }

    /// Encode a PNG, PGM or WAV file: begin, codes, end.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a vocabulary without the modality; those of reading the file.
    pub fn encode_file(&self, modality: Modality, path: &Path) -> Result<Vec<u32>> {
        let codes = self.codecs_for(modality)?.encode_file(modality, path)?;
        self.tokens_of(modality, &codes)
    }

    /// Encode a file as the begin of a prompt: the end token, as between the documents of a training corpus, then the file.
    /// Without it a model cannot know that no text comes before the file.
    ///
    /// # Errors
    /// As [`Self::encode_file`].
    pub fn prompt_of_file(&self, modality: Modality, path: &Path) -> Result<Vec<u32>> {
        let file = self.encode_file(modality, path)?;
        Ok(self.vocabulary().stop().into_iter().chain(file).collect())
    }

    /// Encode an image of the codec's size: begin, codes, end.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a vocabulary without images, [`ErrorKind::Input`] for another size.
    pub fn encode_image(&self, image: &Image) -> Result<Vec<u32>> {
        let codec = self.codecs_for(Modality::Image)?.require_image()?;
        self.tokens_of(Modality::Image, &codec.encode(image)?)
    }

    fn tokens_of(&self, modality: Modality, codes: &[usize]) -> Result<Vec<u32>> {
        let tokens = self.modality_tokens(modality)?;
        let mut ids = vec![tokens.begin];
        ids.extend(codes.iter().map(|&code| tokens.codes[code]));
        ids.push(tokens.end);
        Ok(ids)
    }

    /// The codes of a modality among tokens.
    pub fn codes_of(&self, modality: Modality, ids: &[u32]) -> Vec<usize> {
        ids.iter()
            .filter_map(|&id| self.vocabulary().code(id))
            .filter(|(of, _)| *of == modality)
            .map(|(_, code)| code)
            .collect()
    }

    /// Decode the image codes among tokens to an image.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a vocabulary without images, [`ErrorKind::Input`] for another number of codes than an
    /// image has.
    pub fn decode_image(&self, ids: &[u32]) -> Result<Image> {
        let codec = self.codecs_for(Modality::Image)?.require_image()?;
        codec.decode(&self.codes_of(Modality::Image, ids))
    }

    /// Decode the audio codes among tokens to a sound.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a vocabulary without sounds.
    pub fn decode_audio(&self, ids: &[u32]) -> Result<Sound> {
        let codec = self.codecs_for(Modality::Audio)?.require_audio()?;
        codec.decode(&self.codes_of(Modality::Audio, ids))
    }

    /// Decode the codes among tokens to a PNG, PGM or WAV file.
    ///
    /// # Errors
    /// As [`Self::decode_image`] and [`Self::decode_audio`]; those of writing the file.
    pub fn decode_to_file(&self, modality: Modality, ids: &[u32], path: &Path) -> Result<()> {
        let codes = self.codes_of(modality, ids);
        let codecs = self.codecs_for(modality)?;
        codecs.decode_to_file(modality, &codes, path)
    }
}
