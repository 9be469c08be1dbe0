//! The next token and position, on both engines: `sample/1`, `order/1`.

use brillm_hook::{Canvas, Direction, Fill, Prompt, Setting, Step};

use crate::value::{brl_call, brl_f32s, brl_ids, brl_self, brl_status, brl_tensor, codes, size};

/// `brl_sample.needs`: hidden states.
pub const BRL_NEED_HIDDEN: u64 = 8;
/// `brl_sample.needs`: the tokens so far.
pub const BRL_NEED_HISTORY: u64 = 16;

/// A prompt that has been processed, before its first new token. V tokens, width D.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_prompt {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Number of the sequence, unique within the run.
    pub sequence: u64,
    /// Its tokens.
    pub tokens: brl_ids,
    /// Mean hidden state over the prompt: the signal, or the last layer's output. [D]
    pub pooled: brl_tensor,
    /// Hidden state at the last position. [D]
    pub hidden: brl_tensor,
    /// Logits of the first new token, before any temperature. [V]
    pub logits: brl_tensor,
}

/// The state of a sequence when its next token is chosen.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_step {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Number of the sequence, unique within the run.
    pub sequence: u64,
    /// Hops or tokens of the sequence, including the prompt.
    pub step: u64,
    /// Tokens generated so far.
    pub generated: u64,
    /// The current token.
    pub token: u64,
    /// Prompt and new tokens.
    pub history: brl_ids,
    /// The hidden state. [D]
    pub hidden: brl_tensor,
}

/// Sampling settings that a plugin changes; NaN, the initial value, keeps the run's.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_setting {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Divisor of the logits before the softmax; 0 chooses the highest.
    pub temperature: f64,
}

/// `sample/1`: logits, temperature, choice (QuATS, EDT, min-p). Plugins form a chain; if several choose, the last
/// wins. Functions that a plugin does not need are null.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_sample {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// `BRL_NEED_HIDDEN`, `BRL_NEED_HISTORY`.
    pub needs: u64,
    /// Return the setting for the text that follows a prompt. [instance]
    pub prompt: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            prompt: *const brl_prompt,
            setting: *mut brl_setting,
        ) -> brl_status,
    >,
    /// Rewrite the logits in place, and optionally set this step's temperature. logits [V] [instance]
    pub step: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            step: *const brl_step,
            logits: brl_f32s,
            setting: *mut brl_setting,
        ) -> brl_status,
    >,
    /// Choose a token given the probabilities after temperature and truncation. [V] [instance]
    pub choose: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            step: *const brl_step,
            probabilities: *const brl_tensor,
            token: *mut u64,
        ) -> brl_status,
    >,
}

/// In `brl_canvas.tokens`: a position without a token.
pub const BRL_EMPTY: u32 = 0xFFFF_FFFF;

/// A text that grows in either direction.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_canvas {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// Number of the sequence, unique within the run.
    pub sequence: u64,
    /// Tokens placed so far.
    pub step: u64,
    /// Token at each position; `BRL_EMPTY` if there is none yet.
    pub tokens: brl_ids,
    /// First filled position of the span that contains the prompt.
    pub left: u64,
    /// One past its last filled position.
    pub right: u64,
    /// −ln p of the best token before `left`; NaN if none can be placed.
    pub left_resistance: f64,
    /// −ln p of the best token at `right`; NaN if none can be placed.
    pub right_resistance: f64,
}

/// `brl_fill.direction`: from the tokens before it.
pub const BRL_FORWARD: u64 = 0;
/// From the tokens after it.
pub const BRL_BACKWARD: u64 = 1;

/// A position to fill.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_fill {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// The position.
    pub position: u64,
    /// `BRL_FORWARD` or `BRL_BACKWARD`.
    pub direction: u64,
}

/// `order/1`: which position is filled next, and from which side (bidirectional autoregression).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_order {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// 0.
    pub needs: u64,
    /// Choose the next position to fill. [instance]
    pub next: Option<
        unsafe extern "C" fn(
            instance: *mut brl_self,
            call: *mut brl_call,
            canvas: *const brl_canvas,
            place: *mut brl_fill,
        ) -> brl_status,
    >,
}

codes! {
    direction_code, direction: Direction { Forward = BRL_FORWARD, Backward = BRL_BACKWARD }
}

impl brl_prompt {
    /// Lend a prompt.
    pub fn new(sequence: u64, prompt: &Prompt<'_>) -> Self {
        Self {
            struct_size: size::<Self>(),
            sequence,
            tokens: brl_ids::new(prompt.tokens),
            pooled: brl_tensor::vector(prompt.pooled),
            hidden: brl_tensor::vector(prompt.hidden),
            logits: brl_tensor::vector(prompt.logits),
        }
    }

    /// # Safety
    /// The views are valid for `'a`.
    pub unsafe fn prompt<'a>(&self) -> Prompt<'a> {
        // SAFETY: as the caller promises.
        unsafe {
            Prompt {
                tokens: self.tokens.slice(),
                pooled: self.pooled.as_floats(),
                hidden: self.hidden.as_floats(),
                logits: self.logits.as_floats(),
            }
        }
    }
}

impl brl_step {
    /// Lend a step.
    pub fn new(sequence: u64, step: u64, data: &Step<'_>) -> Self {
        Self {
            struct_size: size::<Self>(),
            sequence,
            step,
            generated: data.generated,
            token: u64::from(data.token),
            history: brl_ids::new(data.history),
            hidden: brl_tensor::vector(data.hidden),
        }
    }

    /// # Safety
    /// The views are valid for `'a`.
    pub unsafe fn data<'a>(&self) -> Step<'a> {
        // SAFETY: as the caller promises.
        unsafe {
            Step {
                generated: self.generated,
                token: self.token as u32,
                history: self.history.slice(),
                hidden: self.hidden.as_floats(),
            }
        }
    }
}

impl brl_setting {
    /// Convert a setting.
    pub fn new(setting: &Setting) -> Self {
        Self {
            struct_size: size::<Self>(),
            temperature: setting.temperature.map_or(f64::NAN, f64::from),
        }
    }

    /// Convert back; an error describes what is invalid.
    pub fn setting(&self) -> Result<Setting, String> {
        let temperature = self.temperature as f32;
        if self.temperature.is_nan() {
            return Ok(Setting::default());
        }
        if !(temperature >= 0.0 && temperature.is_finite()) {
            return Err(format!("the temperature is {}", self.temperature));
        }
        Ok(Setting {
            temperature: Some(temperature),
        })
    }
}

impl brl_canvas {
    /// Lend a canvas.
    pub fn new(sequence: u64, step: u64, canvas: &Canvas<'_>) -> Self {
        Self {
            struct_size: size::<Self>(),
            sequence,
            step,
            tokens: brl_ids::new(canvas.tokens),
            left: canvas.left,
            right: canvas.right,
            left_resistance: canvas.left_resistance,
            right_resistance: canvas.right_resistance,
        }
    }

    /// # Safety
    /// The view is valid for `'a`.
    pub unsafe fn canvas<'a>(&self) -> Canvas<'a> {
        Canvas {
            // SAFETY: as the caller promises.
            tokens: unsafe { self.tokens.slice() },
            left: self.left,
            right: self.right,
            left_resistance: self.left_resistance,
            right_resistance: self.right_resistance,
        }
    }
}

impl brl_fill {
    /// Convert a position to fill.
    pub fn new(fill: &Fill) -> Self {
        Self {
            struct_size: size::<Self>(),
            position: fill.position,
            direction: direction_code(fill.direction),
        }
    }

    /// Convert back; an error describes what is invalid.
    pub fn fill(&self) -> Result<Fill, String> {
        let direction = direction(self.direction)
            .ok_or_else(|| format!("there is no direction {}", self.direction))?;
        Ok(Fill {
            position: self.position,
            direction,
        })
    }
}
