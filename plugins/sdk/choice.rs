//! What comes next: [`Sample`] and [`Order`].

use brillm_abi as abi;

use crate::door::{Tables, answered, enter};
use crate::{Answer, Call, Plugin, Result, view};

/// A prompt that has been read, before its first new token.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a> {
    /// The sequence, unique within the run.
    pub sequence: u64,
    /// Its tokens.
    pub tokens: &'a [u32],
    /// Mean over its positions of the hidden state; empty unless [`Sample::HIDDEN`]. `[D]`
    pub pooled: &'a [f32],
    /// The hidden state at its last position; empty unless [`Sample::HIDDEN`]. `[D]`
    pub hidden: &'a [f32],
    /// Scores of the first new token, before any temperature. `[V]`
    pub logits: &'a [f32],
}

/// A token that is about to be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The sequence, unique within the run.
    pub sequence: u64,
    /// Tokens so far, those of the prompt included.
    pub step: u64,
    /// New tokens chosen so far.
    pub generated: u64,
    /// The current token.
    pub token: u32,
    /// Prompt and new tokens; empty unless [`Sample::HISTORY`].
    pub history: &'a [u32],
    /// The hidden state; empty unless [`Sample::HIDDEN`]. `[D]`
    pub hidden: &'a [f32],
}

/// What a plugin sets; `None` keeps what the run says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Setting {
    /// Divides the scores before the softmax; 0 takes the highest.
    pub temperature: Option<f64>,
}

/// `sample/1`: scores, temperature, choice.
pub trait Sample: Plugin {
    /// Asks [`Self::prompt`].
    const PROMPT: bool = false;
    /// Asks [`Self::step`].
    const STEP: bool = false;
    /// Asks [`Self::choose`].
    const CHOOSE: bool = false;
    /// Wants hidden states.
    const HIDDEN: bool = false;
    /// Wants the tokens so far.
    const HISTORY: bool = false;

    /// A prompt begins: a setting that holds until its text ends.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn prompt(&mut self, _call: &mut Call<'_>, _prompt: &Prompt<'_>) -> Result<Setting> {
        Ok(Setting::default())
    }

    /// Rewrites the scores in place, and may set this step's temperature. `logits [V]`
    ///
    /// [`Answer::Declined`] throws both away.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn step(
        &mut self,
        _call: &mut Call<'_>,
        _step: &Step<'_>,
        _logits: &mut [f32],
        _setting: &mut Setting,
    ) -> Result<Answer> {
        Ok(Answer::Declined)
    }

    /// Chooses among the probabilities that temperature and truncation left. `probabilities [V]`
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn choose(
        &mut self,
        _call: &mut Call<'_>,
        _step: &Step<'_>,
        _probabilities: &[f32],
    ) -> Result<Option<u32>> {
        Ok(None)
    }
}

/// # Safety
/// `out` is null or the host's table to be written.
unsafe fn set(out: *mut abi::brl_setting, setting: &Setting) {
    // SAFETY: a table of the host, as long as it says.
    unsafe {
        if view::whole(out) {
            (*out).temperature = setting.temperature.unwrap_or(f64::NAN);
        }
    }
}

unsafe extern "C" fn prompt<T: Sample>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    prompt: *const abi::brl_prompt,
    setting: *mut abi::brl_setting,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        // SAFETY: the host's table, valid for this call.
        let prompt = unsafe { view::read(prompt) }.ok_or("there is no prompt")?;
        // SAFETY: the host's views, valid for this call.
        let prompt = unsafe {
            Prompt {
                sequence: prompt.sequence,
                tokens: view::ids(prompt.tokens),
                pooled: view::floats(&prompt.pooled),
                hidden: view::floats(&prompt.hidden),
                logits: view::floats(&prompt.logits),
            }
        };
        let answer = plugin.prompt(call, &prompt)?;
        if answer == Setting::default() {
            return Ok(abi::BRL_DECLINED);
        }
        // SAFETY: the host's table to be written.
        unsafe { set(setting, &answer) };
        Ok(abi::BRL_OK)
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

/// # Safety
/// The host's table, valid for `'a`.
unsafe fn read_step<'a>(step: *const abi::brl_step) -> Result<Step<'a>> {
    // SAFETY: as the caller promises.
    let step = unsafe { view::read(step) }.ok_or("there is no step")?;
    Ok(Step {
        sequence: step.sequence,
        step: step.step,
        generated: step.generated,
        token: step.token as u32,
        // SAFETY: the host's views, valid as long as the table.
        history: unsafe { view::ids(step.history) },
        // SAFETY: as above.
        hidden: unsafe { view::floats(&step.hidden) },
    })
}

unsafe extern "C" fn step<T: Sample>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    step: *const abi::brl_step,
    logits: abi::brl_f32s,
    out: *mut abi::brl_setting,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        // SAFETY: the host's table and buffer, valid and ours for this call.
        let (step, logits) = unsafe { (read_step(step)?, view::floats_mut(logits)) };
        let mut setting = Setting::default();
        let answer = plugin.step(call, &step, logits, &mut setting)?;
        // SAFETY: the host's table to be written.
        unsafe { set(out, &setting) };
        Ok(answered(answer))
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

unsafe extern "C" fn choose<T: Sample>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    step: *const abi::brl_step,
    probabilities: *const abi::brl_tensor,
    token: *mut u64,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        if probabilities.is_null() || token.is_null() {
            return Ok(abi::BRL_E_ARG);
        }
        // SAFETY: the host's table and view, valid for this call.
        let (step, probabilities) = unsafe { (read_step(step)?, view::floats(&*probabilities)) };
        match plugin.choose(call, &step, probabilities)? {
            Some(chosen) => {
                // SAFETY: not null, and the host's to be written.
                unsafe { token.write(u64::from(chosen)) };
                Ok(abi::BRL_OK)
            }
            None => Ok(abi::BRL_DECLINED),
        }
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

impl<T: Sample> Tables<T> {
    /// The table of `sample/1`.
    pub const SAMPLE: abi::brl_sample = abi::brl_sample {
        struct_size: size_of::<abi::brl_sample>() as u64,
        needs: (if T::HIDDEN { abi::BRL_NEED_HIDDEN } else { 0 })
            | (if T::HISTORY { abi::BRL_NEED_HISTORY } else { 0 }),
        prompt: if T::PROMPT { Some(prompt::<T>) } else { None },
        step: if T::STEP { Some(step::<T>) } else { None },
        choose: if T::CHOOSE { Some(choose::<T>) } else { None },
    };
}

/// A text that grows.
#[derive(Clone, Copy, Debug)]
pub struct Canvas<'a> {
    /// The sequence, unique within the run.
    pub sequence: u64,
    /// Tokens placed so far.
    pub step: u64,
    /// Tokens by position; [`Self::EMPTY`] where none is yet.
    pub tokens: &'a [u32],
    /// First filled position of the span that holds the prompt.
    pub left: u64,
    /// One past its last filled position.
    pub right: u64,
    /// −ln p of the best token before `left`; not a number where none can be placed.
    pub left_resistance: f64,
    /// −ln p of the best token at `right`; not a number where none can be placed.
    pub right_resistance: f64,
}

impl Canvas<'_> {
    /// Stands where no token is yet.
    pub const EMPTY: u32 = abi::BRL_EMPTY;
}

/// From which side a token is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the tokens before it.
    Forward,
    /// From the tokens after it.
    Backward,
}

/// A position to fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The position.
    pub position: u64,
    /// From which side.
    pub direction: Direction,
}

/// `order/1`: where a text grows.
pub trait Order: Plugin {
    /// The next place to fill; `None` goes on forward.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn next(&mut self, call: &mut Call<'_>, canvas: &Canvas<'_>) -> Result<Option<Place>>;
}

unsafe extern "C" fn next<T: Order>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    canvas: *const abi::brl_canvas,
    place: *mut abi::brl_place,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        // SAFETY: the host's table, valid for this call.
        let canvas = unsafe { view::read(canvas) }.ok_or("there is no canvas")?;
        let canvas = Canvas {
            sequence: canvas.sequence,
            step: canvas.step,
            // SAFETY: the host's view, valid for this call.
            tokens: unsafe { view::ids(canvas.tokens) },
            left: canvas.left,
            right: canvas.right,
            left_resistance: canvas.left_resistance,
            right_resistance: canvas.right_resistance,
        };
        let Some(answer) = plugin.next(call, &canvas)? else {
            return Ok(abi::BRL_DECLINED);
        };
        // SAFETY: the host's table to be written, as long as it says.
        unsafe {
            if !view::whole(place) {
                return Ok(abi::BRL_E_BUFFER);
            }
            (*place).position = answer.position;
            (*place).direction = match answer.direction {
                Direction::Forward => abi::BRL_FORWARD,
                Direction::Backward => abi::BRL_BACKWARD,
            };
        }
        Ok(abi::BRL_OK)
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

impl<T: Order> Tables<T> {
    /// The table of `order/1`.
    pub const ORDER: abi::brl_order = abi::brl_order {
        struct_size: size_of::<abi::brl_order>() as u64,
        needs: 0,
        next: Some(next::<T>),
    };
}
