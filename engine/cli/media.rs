//! `brillm generate --out-image FILE` and `--out-audio FILE`: continue a prompt with an image or a sound.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::prompt::PromptArguments;
use crate::hook::Hooks;
use crate::modality::files::check_ending;
use crate::modality::{Modality, SOUND_CODES};
use crate::run::{Engine, Finish, Request};
use crate::{Error, ErrorKind, Result};

const OTHERS: [&str; 11] = [
    "beam",
    "save_session",
    "load_session",
    "stop",
    "inject",
    "force",
    "fill",
    "best_of",
    "to_left",
    "rerank",
    "backward_model",
];

/// Files for images and sounds that continue the prompt.
#[derive(Args)]
pub(super) struct OutputArguments {
    /// Continue the prompt with an image and write it to FILE, .png or .pgm. A prompt without text is first continued with
    /// text.
    #[arg(long, value_name = "FILE", conflicts_with_all = OTHERS)]
    out_image: Option<PathBuf>,
    /// Continue the prompt with a sound and write it to FILE, .wav: at most 512 codes, or --tokens. A prompt without text is
    /// first continued with text.
    #[arg(long, value_name = "FILE", conflicts_with_all = OTHERS)]
    out_audio: Option<PathBuf>,
}

impl OutputArguments {
    /// Whether an image or a sound is asked for.
    pub(super) fn is_used(&self) -> bool {
        self.out_image.is_some() || self.out_audio.is_some()
    }

    /// Refuse images and sounds of a model that reads from right to left: theirs would end where they begin.
    pub(super) fn check_forward(&self, engine: &Engine) -> Result<()> {
        if !self.is_used() {
            return Ok(());
        }
        let what = "a backward model does not support --out-image and --out-audio";
        Err(Error::new(ErrorKind::Unsupported, what)
            .at(engine.name())
            .advice("use a model that was trained with data.direction = \"forward\" or \"both\""))
    }

    /// Generate the text of a prompt without text, then each file, which follows the text.
    pub(super) fn write(
        &self,
        prompt: &PromptArguments,
        engine: &Engine,
        ids: Vec<u32>,
        hooks: &Hooks,
        request: &dyn Fn(&[u32]) -> Result<Request>,
    ) -> Result<()> {
        let tokenizer = engine.tokenizer();
        let files = [
            (Modality::Image, &self.out_image),
            (Modality::Audio, &self.out_audio),
        ];
        // A model that cannot do it, and a file of another format, are refused before text is generated.
        for (modality, file) in &files {
            if let Some(file) = file {
                tokenizer.modality_tokens(*modality)?;
                check_ending(*modality, file)?;
            }
        }
        if self.out_audio.is_some() && prompt.tokens == Some(0) {
            let what = "invalid --tokens 0: a sound has at least one code";
            return Err(
                Error::new(ErrorKind::Input, what).advice("raise --tokens, or leave it out")
            );
        }
        let hooked = super::plugin_options::hooked(engine, hooks, prompt.choice.seed)?;
        let mut new = Vec::new();
        if prompt.has_only_media() {
            (_, new) = hooked.start(request(&ids)?)?.collect_text()?;
            // The text ends where the model continues with an image or a sound itself.
            let vocabulary = tokenizer.vocabulary();
            let begins = Modality::ALL.map(|modality| vocabulary.id(&modality.begin()));
            let length = new.iter().position(|&id| begins.contains(&Some(id)));
            new.truncate(length.unwrap_or(new.len()));
        }
        let text_ids = [ids.as_slice(), &new].concat();
        let text = tokenizer.decode_after(&ids, &new);
        let mut report =
            json!({"prompt_ids": ids, "ids": new, "text": text, "seed": prompt.choice.seed});
        if !prompt.json {
            super::say(tokenizer.decode(&text_ids).trim())?;
        }
        for (modality, file) in files {
            let Some(file) = file else { continue };
            let request = request(&text_ids)?.tokens(prompt.tokens.unwrap_or(SOUND_CODES));
            let request = request.continue_as(modality, tokenizer)?;
            let mut generation = hooked.start(request)?;
            let (_, codes) = generation.collect_text()?;
            // An image always ends at its last patch.
            let finish = generation.finish();
            let cut = modality == Modality::Audio && finish == Some(Finish::Length);
            if codes.is_empty() {
                let what = "the model chose no codes: the sound is empty";
                return Err(Error::new(ErrorKind::Input, what).advice("try another --seed"));
            }
            tokenizer.decode_to_file(modality, &codes, file)?;
            report[modality.name()] = json!({
                "file": file.display().to_string(),
                "ids": codes,
                "finish_reason": finish,
            });
            if cut {
                super::warn(&format!(
                    "{}: the sound was cut after {} codes, before the model ended it; raise --tokens",
                    file.display(),
                    codes.len()
                ));
            }
            if !prompt.json {
                super::say(format!("wrote {}", file.display()))?;
            }
        }
        if prompt.json {
            super::plugin_options::note(&mut report, prompt.choice.seed)?;
            return super::say_json(&report);
        }
        super::plugin_options::say_reports(prompt.choice.seed)
    }
}
