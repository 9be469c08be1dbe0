//! A session's settings: the caller's parameters, read, checked and kept.

use brillm::Request;
use brillm::modality::{Modality, SOUND_CODES};
use brillm::path::Sampling;

use crate::error::ApiError;
use crate::ffi::{self, Sized64, fill, pass, sized64};
use crate::layout::*;
use crate::model::brillm_model;

/// New tokens where the caller names no number; those of a sound are [`SOUND_CODES`].
const TOKENS: u64 = 128;
/// Recent tokens where the caller names no number.
const WINDOW: u64 = 64;

sized64! {
    brillm_parameters(112) { top_p: 1.0, repetition_penalty: 1.0, penalty_window: WINDOW }
}

/// Writes the defaults into the caller's parameters: greedy, 128 tokens (512 codes of a sound), no truncation, no penalty.
///
/// `struct_size` is the caller's sizeof(brillm_parameters). Answers BRILLM_ERROR_NULL or, for a size that no version
/// has, BRILLM_ERROR_INPUT.
///
/// # Safety
/// `parameters` is NULL or has room for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_parameters_init(
    parameters: *mut brillm_parameters,
    struct_size: usize,
) -> brillm_status {
    pass(BRILLM_ERROR_PANIC, || {
        if parameters.is_null() {
            return BRILLM_ERROR_NULL;
        }
        if !ffi::believed::<brillm_parameters>(struct_size as u64) {
            return BRILLM_ERROR_INPUT;
        }
        // SAFETY: the caller promises room for the size, which is at least that of the first version.
        unsafe { fill(parameters, struct_size, &brillm_parameters::defaults()) };
        BRILLM_OK
    })
}

/// Parameters in Rust's terms.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) sampling: Sampling,
    pub(crate) ignore_eos: bool,
    tokens: usize,
    stops: Vec<String>,
    pub(crate) modality: Option<Modality>,
}

/// A whole number as wide as memory; larger ones mean as much.
pub(crate) fn whole(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The caller's number, or the default where it is 0.
fn or(number: u64, default: u64) -> usize {
    whole(if number == 0 { default } else { number })
}

/// The caller's number, or 1, which changes nothing, where it is 0.
fn or_one(number: f64) -> f32 {
    if number == 0.0 { 1.0 } else { number as f32 }
}

/// Read a BRILLM_MODALITY value; `None` for text.
pub(crate) fn modality(number: u64) -> Result<Option<Modality>, ApiError> {
    match number {
        BRILLM_MODALITY_TEXT => Ok(None),
        BRILLM_MODALITY_IMAGE => Ok(Some(Modality::Image)),
        BRILLM_MODALITY_AUDIO => Ok(Some(Modality::Audio)),
        _ => Err(ApiError::new(
            BRILLM_ERROR_INPUT,
            format!("invalid modality {number}: expected 0 to 2"),
        )),
    }
}

impl Settings {
    /// Read and checks the caller's parameters; NULL for the defaults.
    ///
    /// # Safety
    /// `parameters` is NULL, or has its struct_size, and its arrays have as many values as it says.
    pub(crate) unsafe fn read(
        model: &brillm_model,
        parameters: *const brillm_parameters,
    ) -> Result<Self, ApiError> {
        // SAFETY: as the caller promises.
        let given = unsafe { ffi::read(parameters) }?;
        // SAFETY: as above.
        let banned = unsafe { ffi::slice(given.banned, whole(given.banned_count), "banned") }?;
        // SAFETY: as above.
        let stops = unsafe { ffi::texts(given.stops, whole(given.stop_count), "stops") }?;
        if let Some(index) = stops.iter().position(|stop| stop.is_empty()) {
            return Err(ApiError::new(
                BRILLM_ERROR_INPUT,
                format!("stops[{index}] is empty"),
            ));
        }
        let stops = stops.into_iter().map(String::from).collect();
        let biases = whole(given.bias_count);
        // SAFETY: as above.
        let bias_tokens = unsafe { ffi::slice(given.bias_tokens, biases, "bias_tokens") }?;
        // SAFETY: as above.
        let bias_values = unsafe { ffi::slice(given.bias_values, biases, "bias_values") }?;
        model.check(banned)?;
        model.check(bias_tokens)?;
        let biases = bias_tokens.iter().zip(bias_values);
        let sampling = Sampling::default()
            .temperature(given.temperature as f32)
            .top_k(whole(given.top_k))
            .top_p(or_one(given.top_p))
            .min_p(given.min_p as f32)
            .repetition_penalty(
                or_one(given.repetition_penalty),
                or(given.penalty_window, WINDOW),
            )
            .presence_and_frequency(
                given.presence_penalty as f32,
                given.frequency_penalty as f32,
            )
            .logit_bias(biases.map(|(&token, &value)| (token, value as f32)))
            .banned(banned.iter().copied())
            .seed(given.seed);
        sampling.check()?;
        let modality = modality(given.modality)?;
        let tokens = match modality {
            Some(Modality::Audio) => SOUND_CODES as u64,
            _ => TOKENS,
        };
        Ok(Self {
            sampling,
            ignore_eos: given.ignore_eos != 0,
            tokens: or(given.tokens, tokens),
            stops,
            modality,
        })
    }

    /// A request for what follows `ids`.
    pub(crate) fn request(&self, model: &brillm_model, ids: Vec<u32>) -> Result<Request, ApiError> {
        let request = Request::ids(ids)
            .sampling(self.sampling.clone())
            .tokens(self.tokens)
            .ignore_eos(self.ignore_eos);
        let stops = self.stops.iter();
        let request = stops.fold(request, |request, stop| request.stop(stop));
        Ok(match self.modality {
            Some(modality) => request.continue_as(modality, model.engine().tokenizer())?,
            None => request,
        })
    }
}
