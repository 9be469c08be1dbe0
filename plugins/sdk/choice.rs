//! Hooks that choose the next token or position: [`SampleHook`], [`OrderHook`].

use brillm_abi as abi;

use crate::entry::{HookTables, hook_functions, status_of, table, write};
use crate::{Answer, Canvas, Fill, Host, Plugin, Prompt, Result, Setting, Step};

/// `sample/1`: rewrites logits, sets the temperature, chooses tokens.
pub trait SampleHook: Plugin {
    /// Whether [`Self::prompt`] is called.
    const PROMPT: bool = false;
    /// Whether [`Self::step`] is called.
    const STEP: bool = false;
    /// Whether [`Self::choose`] is called.
    const CHOOSE: bool = false;
    /// Whether hidden states are needed.
    const HIDDEN: bool = false;
    /// Whether the tokens so far are needed.
    const HISTORY: bool = false;

    /// Return the setting for the text that follows a prompt.
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn prompt(&mut self, _host: &mut Host<'_>, _prompt: &Prompt<'_>) -> Result<Setting> {
        Ok(Setting::default())
    }

    /// Rewrite the logits in place, and optionally set this step's temperature. `logits [V]`
    ///
    /// The engine ignores both if the answer is [`Answer::Declined`].
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn step(
        &mut self,
        _host: &mut Host<'_>,
        _step: &Step<'_>,
        _logits: &mut [f32],
        _setting: &mut Setting,
    ) -> Result<Answer> {
        Ok(Answer::Declined)
    }

    /// Choose a token given the probabilities after temperature and truncation; `None` for no opinion.
    /// `probabilities [V]`
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn choose(
        &mut self,
        _host: &mut Host<'_>,
        _step: &Step<'_>,
        _probabilities: &[f32],
    ) -> Result<Option<u32>> {
        Ok(None)
    }
}

/// `order/1`: chooses the next position of a text that grows in both directions.
pub trait OrderHook: Plugin {
    /// Choose the next position to fill; `None` continues forward.
    ///
    /// # Errors
    /// Any failure of the plugin.
    fn next(&mut self, host: &mut Host<'_>, canvas: &Canvas<'_>) -> Result<Option<Fill>>;
}

hook_functions! {
    fn prompt<T: SampleHook>(
        prompt: *const abi::brl_prompt,
        setting: *mut abi::brl_setting,
    ) = |plugin, host| {
        // SAFETY: the host's table, valid for this call.
        let raw = unsafe { table(prompt)? };
        host.sequence = raw.sequence;
        // SAFETY: the host's views, valid for this call.
        let answer = plugin.prompt(host, &unsafe { raw.prompt() })?;
        if answer == Setting::default() {
            return Ok(abi::BRL_DECLINED);
        }
        // SAFETY: the host's table to be written.
        Ok(unsafe { write(setting, &abi::brl_setting::new(&answer)) })
    }

    fn step<T: SampleHook>(
        step: *const abi::brl_step,
        logits: abi::brl_f32s,
        out: *mut abi::brl_setting,
    ) = |plugin, host| {
        // SAFETY: the host's table and buffer, valid and the plugin's for this call.
        let (raw, logits) = unsafe { (table(step)?, logits.slice_mut()) };
        (host.sequence, host.step) = (raw.sequence, raw.step);
        let mut setting = Setting::default();
        // SAFETY: the host's views, valid for this call.
        let answer = plugin.step(host, &unsafe { raw.data() }, logits, &mut setting)?;
        // SAFETY: the host's table to be written.
        Ok(match unsafe { write(out, &abi::brl_setting::new(&setting)) } {
            abi::BRL_OK => status_of(answer),
            status => status,
        })
    }

    fn choose<T: SampleHook>(
        step: *const abi::brl_step,
        probabilities: *const abi::brl_tensor,
        token: *mut u64,
    ) = |plugin, host| {
        if probabilities.is_null() || token.is_null() {
            return Ok(abi::BRL_E_ARG);
        }
        // SAFETY: the host's table and view, valid for this call.
        let (raw, probabilities) = unsafe { (table(step)?, (*probabilities).as_floats()) };
        (host.sequence, host.step) = (raw.sequence, raw.step);
        // SAFETY: the host's views, valid for this call.
        let Some(chosen) = plugin.choose(host, &unsafe { raw.data() }, probabilities)? else {
            return Ok(abi::BRL_DECLINED);
        };
        // SAFETY: not null, and the host's to be written.
        unsafe { token.write(u64::from(chosen)) };
        Ok(abi::BRL_OK)
    }

    fn next<T: OrderHook>(
        canvas: *const abi::brl_canvas,
        fill: *mut abi::brl_fill,
    ) = |plugin, host| {
        // SAFETY: the host's table, valid for this call.
        let raw = unsafe { table(canvas)? };
        (host.sequence, host.step) = (raw.sequence, raw.step);
        // SAFETY: the host's view, valid for this call.
        Ok(match plugin.next(host, &unsafe { raw.canvas() })? {
            // SAFETY: the host's table to be written.
            Some(answer) => unsafe { write(fill, &abi::brl_fill::new(&answer)) },
            None => abi::BRL_DECLINED,
        })
    }
}

impl<T: SampleHook> HookTables<T> {
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

impl<T: OrderHook> HookTables<T> {
    /// The table of `order/1`.
    pub const ORDER: abi::brl_order = abi::brl_order {
        struct_size: size_of::<abi::brl_order>() as u64,
        needs: 0,
        next: Some(next::<T>),
    };
}
