//! The hook that makes training data: [`CorpusHook`].

use brillm_abi as abi;

use crate::entry::{HookTables, collect, hook_functions, put, table, text};
use crate::{Host, Plugin, PluginError, Result, Speech, Spoken};

/// A reference text, and the run's model for making records of it.
pub struct HostReference<'a> {
    /// Name of the text, unique within the run.
    pub id: &'a str,
    /// The text.
    pub text: &'a str,
    raw: &'a abi::brl_reference,
}

impl HostReference<'_> {
    /// Whether the run has a model.
    pub fn has_model(&self) -> bool {
        self.raw.generate.is_some()
    }

    /// Whether the run's output already contains a record with this `key`.
    pub fn written(&self, key: &str) -> bool {
        match self.raw.written {
            // SAFETY: the context is the host's for this call; the key lives until it returns.
            Some(written) => unsafe { written(self.raw.run_ctx, abi::brl_str::new(key)) != 0 },
            None => false,
        }
    }

    /// Generate at most `tokens` tokens after `prompt`.
    ///
    /// # Errors
    /// A run without a model; a failure of the model.
    pub fn generate(&self, prompt: &str, tokens: u64) -> Result<String> {
        let generate = self.raw.generate.ok_or(NO_MODEL)?;
        let records = collect("generate", |sink| {
            // SAFETY: the context is the host's for this call; prompt and sink live until it returns.
            unsafe {
                generate(
                    self.raw.generate_ctx,
                    abi::brl_str::new(prompt),
                    tokens,
                    sink,
                )
            }
        })?;
        String::from_utf8(records.concat())
            .map_err(|_| PluginError::new("the model's text is not UTF-8"))
    }

    /// Generate text within bounds.
    ///
    /// # Errors
    /// A run without a model; a failure of the model.
    pub fn speak(&self, speech: &Speech<'_>) -> Result<Spoken> {
        let speak = self.raw.speak.ok_or(NO_MODEL)?;
        let raw = abi::brl_speech::new(speech);
        let records = collect("speak", |sink| {
            // SAFETY: the context is the host's for this call; speech and sink live until it returns.
            unsafe { speak(self.raw.generate_ctx, &raw const raw, sink) }
        })?;
        let mut texts = records.into_iter().map(String::from_utf8);
        match (texts.next(), texts.next()) {
            (Some(Ok(text)), Some(Ok(end))) => Ok(Spoken {
                text,
                cut: end == "length",
                grounded: texts
                    .next()
                    .and_then(|fraction| fraction.ok()?.parse().ok()),
            }),
            _ => Err(PluginError::new(
                "the model's answer is not a text and its end",
            )),
        }
    }

    /// Compute the fraction of the hops of `text` that are hops of `reference`; `None` if the model's tokens are not
    /// known.
    ///
    /// # Errors
    /// A failure of the engine.
    pub fn grounded(&self, reference: &str, text: &str) -> Result<Option<f64>> {
        let Some(grounded) = self.raw.grounded else {
            return Ok(None);
        };
        let mut fraction = 0.0;
        let (reference, text) = (abi::brl_str::new(reference), abi::brl_str::new(text));
        // SAFETY: the context is the host's for this call; texts and number live until it returns.
        match unsafe { grounded(self.raw.generate_ctx, reference, text, &raw mut fraction) } {
            abi::BRL_DECLINED => Ok(None),
            status => PluginError::check(status, "grounded").map(|()| Some(fraction)),
        }
    }
}

const NO_MODEL: &str = "the run has no model: name one with --model";

/// Accepts records.
pub struct Records<'a> {
    sink: &'a abi::brl_sink,
}

impl Records<'_> {
    /// Add a record: a value that serialises to a JSON object.
    ///
    /// # Errors
    /// A value that does not; a failure to write.
    pub fn add(&mut self, record: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_string(record)?;
        // SAFETY: the sink is the host's for this call.
        unsafe { put(self.sink, text.as_bytes()) }
    }
}

/// `corpus/1`: makes records of reference texts.
pub trait CorpusHook: Plugin {
    /// Make records of a reference, whose index in the run is `host.sequence`.
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn write(
        &mut self,
        host: &mut Host<'_>,
        reference: &HostReference<'_>,
        records: &mut Records<'_>,
    ) -> Result<()>;
}

hook_functions! {
    fn write<T: CorpusHook>(
        reference: *const abi::brl_reference,
        records: *const abi::brl_sink,
    ) = |plugin, host| {
        // SAFETY: the host's table and sink, valid for this call.
        let (raw, sink) = unsafe { (table(reference)?, records.as_ref()) };
        let sink = sink.ok_or("the sink is null")?;
        host.sequence = raw.sequence;
        // SAFETY: the host's views, valid for this call.
        let (id, text) = unsafe { (text(raw.id), text(raw.text)) };
        let reference = HostReference { id, text, raw: &raw };
        plugin.write(host, &reference, &mut Records { sink }).map(|()| abi::BRL_OK)
    }
}

impl<T: CorpusHook> HookTables<T> {
    /// The table of `corpus/1`.
    pub const CORPUS: abi::brl_corpus = abi::brl_corpus {
        struct_size: size_of::<abi::brl_corpus>() as u64,
        needs: 0,
        write: Some(write::<T>),
    };
}
