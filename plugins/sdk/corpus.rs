//! Making data: [`Corpus`].

use std::ffi::c_void;

use brillm_abi as abi;

use crate::door::{Tables, enter};
use crate::{Call, Error, Plugin, Result, view};

/// What is to be said, and within which bounds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Speech<'a> {
    /// What a chat model is told before the prompt.
    pub system: &'a str,
    /// What is continued, or answered.
    pub prompt: &'a str,
    /// New tokens at most.
    pub tokens: u64,
    /// A text whose sub-graph is preferred: its tokens, and the hops between them. Empty for none.
    pub within: &'a str,
    /// What a hop of that sub-graph gains in nats; infinite, and no other is taken.
    pub gain: f64,
}

/// What was said.
#[derive(Clone, Debug, PartialEq)]
pub struct Spoken {
    /// The text.
    pub text: String,
    /// Whether it ended because it was as long as it might be.
    pub cut: bool,
    /// The share of its hops that are hops of [`Speech::within`], where that is given and the tokens are known.
    pub grounded: Option<f64>,
}

/// A text to make records of, and the run's model to make them with.
pub struct Reference<'a> {
    /// Its place in the run, from 0.
    pub sequence: u64,
    /// Its name, unique within the run.
    pub id: &'a str,
    /// The text.
    pub text: &'a str,
    raw: &'a abi::brl_reference,
}

impl Reference<'_> {
    /// Whether there is a model to generate with.
    pub fn has_model(&self) -> bool {
        self.raw.generate.is_some()
    }

    /// What the run's model says after `prompt`, at most `tokens` tokens.
    ///
    /// # Errors
    /// Without a model, or when it could not go on.
    pub fn generate(&self, prompt: &str, tokens: u64) -> Result<String> {
        let Some(generate) = self.raw.generate else {
            return Err(Error::new("the run has no model: name one with --model"));
        };
        let mut bytes: Vec<u8> = Vec::new();
        let sink = abi::brl_sink {
            ctx: (&raw mut bytes).cast(),
            write: Some(collect),
        };
        // SAFETY: the context is the host's for this call; prompt and sink live until it returns.
        let status = unsafe {
            generate(
                self.raw.generate_ctx,
                view::lend(prompt),
                tokens,
                &raw const sink,
            )
        };
        match status {
            abi::BRL_OK => {
                String::from_utf8(bytes).map_err(|_| Error::new("the model's answer is not UTF-8"))
            }
            abi::BRL_E_CANCELLED => Err(Error::cancelled()),
            status => Err(Error::status(status, "generate")),
        }
    }
}

impl Reference<'_> {
    /// Whether the run's output has a record with this `key` already.
    pub fn written(&self, key: &str) -> bool {
        match self.raw.written {
            // SAFETY: the context is the host's for this call; the key lives until it returns.
            Some(written) => unsafe { written(self.raw.run_ctx, view::lend(key)) != 0 },
            None => false,
        }
    }

    /// What the run's model says, within bounds.
    ///
    /// # Errors
    /// Without a model, or when it could not go on.
    pub fn speak(&self, speech: &Speech<'_>) -> Result<Spoken> {
        let Some(speak) = self.raw.speak else {
            return Err(Error::new("the run has no model: name one with --model"));
        };
        let raw = abi::brl_speech {
            struct_size: size_of::<abi::brl_speech>() as u64,
            system: view::lend(speech.system),
            prompt: view::lend(speech.prompt),
            tokens: speech.tokens,
            within: view::lend(speech.within),
            gain: speech.gain,
        };
        let mut records: Vec<Vec<u8>> = Vec::new();
        let sink = abi::brl_sink {
            ctx: (&raw mut records).cast(),
            write: Some(collect_records),
        };
        // SAFETY: the context is the host's for this call; speech and sink live until it returns.
        let status = unsafe { speak(self.raw.generate_ctx, &raw const raw, &raw const sink) };
        match status {
            abi::BRL_OK => {}
            abi::BRL_E_CANCELLED => return Err(Error::cancelled()),
            status => return Err(Error::status(status, "speak")),
        }
        let mut texts = records.into_iter().map(String::from_utf8);
        match (texts.next(), texts.next()) {
            (Some(Ok(text)), Some(Ok(end))) => Ok(Spoken {
                text,
                cut: end == "length",
                grounded: match texts.next() {
                    Some(Ok(share)) => share.parse().ok(),
                    _ => None,
                },
            }),
            _ => Err(Error::new("the model's answer is not a text and its end")),
        }
    }

    /// The share of the hops of `text` that are hops of `reference`, where the model's tokens are known.
    ///
    /// # Errors
    /// Whatever the engine meets.
    pub fn grounded(&self, reference: &str, text: &str) -> Result<Option<f64>> {
        let Some(grounded) = self.raw.grounded else {
            return Ok(None);
        };
        let mut share = 0.0;
        // SAFETY: the context is the host's for this call; texts and number live until it returns.
        let status = unsafe {
            grounded(
                self.raw.generate_ctx,
                view::lend(reference),
                view::lend(text),
                &raw mut share,
            )
        };
        match status {
            abi::BRL_OK => Ok(Some(share)),
            abi::BRL_DECLINED => Ok(None),
            status => Err(Error::status(status, "grounded")),
        }
    }
}

unsafe extern "C" fn collect_records(ctx: *mut c_void, bytes: abi::brl_str) -> abi::brl_status {
    // SAFETY: `speak` above made the context of a vector that outlives the sink, and the host's view holds for this
    // call.
    unsafe {
        (*ctx.cast::<Vec<Vec<u8>>>()).push(view::bytes(bytes).to_vec());
    }
    abi::BRL_OK
}

unsafe extern "C" fn collect(ctx: *mut c_void, bytes: abi::brl_str) -> abi::brl_status {
    // SAFETY: `generate` above made the context of a vector that outlives the sink, and the host's view holds
    // for this call.
    unsafe {
        (*ctx.cast::<Vec<u8>>()).extend_from_slice(view::bytes(bytes));
    }
    abi::BRL_OK
}

/// Takes records.
pub struct Records<'a> {
    sink: &'a abi::brl_sink,
}

impl Records<'_> {
    /// Adds a record: anything that becomes one JSON object.
    ///
    /// # Errors
    /// When it becomes none, or the engine cannot take it.
    pub fn add(&mut self, record: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_string(record)?;
        // SAFETY: the sink is the host's for this call.
        unsafe { put(self.sink, text.as_bytes()) }
    }
}

/// Writes one record.
///
/// # Safety
/// `sink` is null or the host's, valid for this call.
pub(crate) unsafe fn put(sink: *const abi::brl_sink, bytes: &[u8]) -> Result<()> {
    // SAFETY: as the caller promises; sinks are frozen.
    let Some((ctx, write)) =
        (unsafe { sink.as_ref() }).and_then(|sink| Some((sink.ctx, sink.write?)))
    else {
        return Err(Error::new("there is no sink"));
    };
    let record = abi::brl_str {
        ptr: bytes.as_ptr().cast(),
        len: bytes.len() as u64,
    };
    // SAFETY: the context is the sink's, the bytes hold until the call returns.
    match unsafe { write(ctx, record) } {
        abi::BRL_OK => Ok(()),
        status => Err(Error::status(status, "the engine did not take the record")),
    }
}

/// `corpus/1`: reference texts become records.
pub trait Corpus: Plugin {
    /// Makes records of a reference.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn write(
        &mut self,
        call: &mut Call<'_>,
        reference: &Reference<'_>,
        records: &mut Records<'_>,
    ) -> Result<()>;
}

unsafe extern "C" fn write<T: Corpus>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    reference: *const abi::brl_reference,
    records: *const abi::brl_sink,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        // SAFETY: the host's table and sink, valid for this call.
        let (raw, sink) = unsafe { (view::read(reference), records.as_ref()) };
        let (raw, sink) = raw.zip(sink).ok_or("there is no reference")?;
        // SAFETY: the host's views, valid for this call.
        let (id, text) = unsafe { (view::text(raw.id), view::text(raw.text)) };
        let reference = Reference {
            sequence: raw.sequence,
            id,
            text,
            raw: &raw,
        };
        plugin
            .write(call, &reference, &mut Records { sink })
            .map(|()| abi::BRL_OK)
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

impl<T: Corpus> Tables<T> {
    /// The table of `corpus/1`.
    pub const CORPUS: abi::brl_corpus = abi::brl_corpus {
        struct_size: size_of::<abi::brl_corpus>() as u64,
        needs: 0,
        write: Some(write::<T>),
    };
}
