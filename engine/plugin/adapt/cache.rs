//! `kv.plan/1`, `kv.keep/1`, `kv.codec/1`.

use std::ffi::c_void;
use std::sync::Arc;

use brillm_abi as abi;

use super::{Asked, find, ids, index, lacks, size, tensor};
use crate::hook::{
    Answer, Call, Codec, CodecAxis, CodecFormat, CodecQuestion, CodecSide, ColumnSum, Distance,
    Eviction, HeadReduction, Hooks, Keep, KeepNeeds, KeepQuestion, KvShape, Phase, Plan, Planned,
    Trial,
};
use crate::plugin::instance::{Instance, nonsense};
use crate::{Error, Result};

const PLAN: usize = index("kv.plan/1");
const KEEP: usize = index("kv.keep/1");
const CODEC: usize = index("kv.codec/1");

pub(super) fn install(
    instance: &Arc<Instance>,
    hooks: &mut Hooks,
    twice: &dyn Fn(&str) -> Error,
) -> Result<()> {
    if let Some(asked) = find::<abi::brl_kv_plan>(instance, "kv.plan/1") {
        if asked.table.plan.is_none() {
            return Err(lacks(instance, "kv.plan/1", "plan"));
        }
        if hooks.plan.replace(Arc::new(asked)).is_some() {
            return Err(twice("kv.plan/1"));
        }
    }
    if let Some(asked) = find::<abi::brl_kv_keep>(instance, "kv.keep/1") {
        if asked.table.keep.is_none() {
            return Err(lacks(instance, "kv.keep/1", "keep"));
        }
        if hooks.keep.replace(Arc::new(asked)).is_some() {
            return Err(twice("kv.keep/1"));
        }
    }
    if let Some(asked) = find::<abi::brl_kv_codec>(instance, "kv.codec/1") {
        if asked.table.plan.is_none() {
            return Err(lacks(instance, "kv.codec/1", "plan"));
        }
        if hooks.codec.replace(Arc::new(asked)).is_some() {
            return Err(twice("kv.codec/1"));
        }
    }
    Ok(())
}

/// A trial as the door's functions are given it, and the first thing that went wrong in it.
struct TrialContext<'a> {
    trial: &'a mut dyn Trial,
    layers: usize,
    error: Option<Error>,
}

impl TrialContext<'_> {
    fn keep<T>(&mut self, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                self.error.get_or_insert(error);
                None
            }
        }
    }
}

unsafe extern "C" fn distances(
    context: *mut c_void,
    measure: u64,
    keys: *mut f64,
    values: *mut f64,
) -> abi::brl_status {
    // SAFETY: the context is the one `plan` lends for its call.
    let Some(context) = (unsafe { context.cast::<TrialContext<'_>>().as_mut() }) else {
        return abi::BRL_E_ARG;
    };
    let measure = match measure {
        abi::BRL_DISTANCE_MEAN_OF_NORMS => Distance::MeanOfNorms,
        abi::BRL_DISTANCE_FLATTENED => Distance::Flattened,
        abi::BRL_DISTANCE_COSINE => Distance::Cosine,
        abi::BRL_DISTANCE_NORMALISED => Distance::Normalised,
        _ => return abi::BRL_E_ARG,
    };
    if keys.is_null() || values.is_null() {
        return abi::BRL_E_ARG;
    }
    let length = context.layers * context.layers;
    // SAFETY: the plugin's buffers hold L·L numbers each, as the interface says.
    let (keys, values) = unsafe {
        (
            std::slice::from_raw_parts_mut(keys, length),
            std::slice::from_raw_parts_mut(values, length),
        )
    };
    let outcome = context.trial.distances(measure, keys, values);
    context
        .keep(outcome)
        .map_or(abi::BRL_E_INTERNAL, |()| abi::BRL_OK)
}

unsafe extern "C" fn similarity(
    context: *mut c_void,
    source: *const u32,
    layers: u64,
    cosine: *mut f64,
) -> abi::brl_status {
    // SAFETY: the context is the one `plan` lends for its call.
    let Some(context) = (unsafe { context.cast::<TrialContext<'_>>().as_mut() }) else {
        return abi::BRL_E_ARG;
    };
    if source.is_null() || cosine.is_null() || layers != context.layers as u64 {
        return abi::BRL_E_ARG;
    }
    // SAFETY: the plugin's map has L entries, as the interface says.
    let source = unsafe { std::slice::from_raw_parts(source, context.layers) };
    if check_map(source).is_err() {
        return abi::BRL_E_ARG;
    }
    let outcome = context.trial.similarity(source);
    match context.keep(outcome) {
        Some(value) => {
            // SAFETY: not null, and the plugin's to be written.
            unsafe { cosine.write(value) };
            abi::BRL_OK
        }
        None => abi::BRL_E_INTERNAL,
    }
}

/// Whether every layer reads itself, or a layer before it that reads itself.
fn check_map(source: &[u32]) -> Result<()> {
    for (layer, &from) in source.iter().enumerate() {
        if from as usize > layer || source[from as usize] != from {
            return Err(nonsense(format!(
                "layer {layer} cannot read layer {from}: a source lies at or before its reader and reads itself"
            )));
        }
    }
    Ok(())
}

impl Plan for Asked<abi::brl_kv_plan> {
    fn tries(&self) -> bool {
        self.table.needs & abi::BRL_NEED_TRIAL != 0
    }

    fn plan(
        &self,
        call: &Call<'_>,
        shape: &KvShape<'_>,
        trial: Option<&mut dyn Trial>,
        planned: Planned<'_>,
    ) -> Result<Answer> {
        let Some(plan) = self.table.plan else {
            return Ok(Answer::Declined);
        };
        let layers = shape.layers;
        let mut context = trial.map(|trial| TrialContext {
            trial,
            layers,
            error: None,
        });
        let trial_ctx: *mut c_void = context
            .as_mut()
            .map_or(std::ptr::null_mut(), |context| (&raw mut *context).cast());
        let tries = !trial_ctx.is_null();
        let question = abi::brl_plan_in {
            struct_size: size::<abi::brl_plan_in>(),
            layers: layers as u64,
            context: shape.context as u64,
            query_heads: ids(shape.query_heads),
            kv_heads: ids(shape.kv_heads),
            head_width: ids(shape.head_width),
            trial_ctx,
            distances: if tries { Some(distances) } else { None },
            similarity: if tries { Some(similarity) } else { None },
        };
        let identity: Vec<u32> = (0..layers as u32).collect();
        let answer = self.instance.ask(
            PLAN,
            call,
            |instance, frame, scratch| {
                let source = abi::brl_u32s {
                    ptr: scratch.first.load(&identity),
                    len: layers as u64,
                };
                let storage = abi::brl_u32s {
                    ptr: scratch.second.clear(layers),
                    len: layers as u64,
                };
                // SAFETY: the instance is the plugin's; question, frame, trial and buffers live until it returns.
                unsafe { plan(instance, frame, &raw const question, source, storage) }
            },
            |scratch| {
                let (source, storage) = (scratch.first.values(), scratch.second.values());
                check_map(source)?;
                if let Some(layer) = storage.iter().position(|bits| ![0, 16, 32].contains(bits)) {
                    return Err(nonsense(format!(
                        "layer {layer} cannot be stored in {} bits",
                        storage[layer]
                    )));
                }
                Ok((source.to_vec(), storage.to_vec()))
            },
        );
        // What went wrong in the trial says more than what the plugin made of it.
        if let (Err(_), Some(error)) = (&answer, context.and_then(|context| context.error)) {
            return Err(error
                .at("trial")
                .at("kv.plan/1")
                .at(format!("plugin {}", self.instance.id())));
        }
        Ok(match answer? {
            Some((source, storage)) => {
                planned.source.copy_from_slice(&source);
                planned.storage.copy_from_slice(&storage);
                Answer::Given
            }
            None => Answer::Declined,
        })
    }
}

/// Whether a list is ascending and within `length`.
fn check_list(list: &[u32], length: usize, what: &str) -> Result<()> {
    if let Some(pair) = list.windows(2).find(|pair| pair[0] >= pair[1]) {
        return Err(nonsense(format!(
            "{what} {} comes before {}",
            pair[0], pair[1]
        )));
    }
    match list.last() {
        Some(&last) if last as usize >= length => {
            Err(nonsense(format!("{what} {last} of {length}")))
        }
        _ => Ok(()),
    }
}

impl Keep for Asked<abi::brl_kv_keep> {
    fn begin(&self, call: &Call<'_>, prompt: usize) -> Result<KeepNeeds> {
        let Some(begin) = self.table.begin else {
            return Ok(KeepNeeds::default());
        };
        let mut raw = abi::brl_keep_wants {
            struct_size: size::<abi::brl_keep_wants>(),
            needs: 0,
            column_window: 0,
            column_oldest: 1.0,
            column_newest: 1.0,
            column_heads: abi::BRL_HEADS_ALL,
        };
        let place = &raw mut raw;
        let answer = self.instance.ask(
            KEEP,
            call,
            // SAFETY: the instance is the plugin's; frame and answer live until it returns.
            |instance, frame, _| unsafe {
                begin(instance, frame, call.sequence, prompt as u64, place)
            },
            |_| {
                // SAFETY: the call has returned, and the place is ours again.
                let raw = unsafe { *place };
                let weights = [raw.column_oldest, raw.column_newest];
                if weights
                    .iter()
                    .any(|weight| !weight.is_finite() || *weight < 0.0)
                {
                    return Err(nonsense(format!(
                        "the weights of the columns are {weights:?}"
                    )));
                }
                let heads = match raw.column_heads {
                    abi::BRL_HEADS_ALL => HeadReduction::All,
                    abi::BRL_HEADS_GROUP_MEAN => HeadReduction::GroupMean,
                    abi::BRL_HEADS_GROUP_MAXIMUM => HeadReduction::GroupMaximum,
                    other => {
                        return Err(nonsense(format!("there is no reduction {other} of heads")));
                    }
                };
                Ok(KeepNeeds {
                    column: (raw.column_window > 0).then_some(ColumnSum {
                        window: usize::try_from(raw.column_window).unwrap_or(usize::MAX),
                        oldest: raw.column_oldest as f32,
                        newest: raw.column_newest as f32,
                        heads,
                    }),
                    accumulated: raw.needs & abi::BRL_NEED_ACCUMULATED != 0,
                    key_norm: raw.needs & abi::BRL_NEED_KEY_NORM != 0,
                })
            },
        )?;
        Ok(answer.unwrap_or_default())
    }

    fn keep(&self, call: &Call<'_>, question: &KeepQuestion<'_>) -> Result<Option<Eviction>> {
        let Some(keep) = self.table.keep else {
            return Ok(None);
        };
        let heads = question.heads.max(1);
        let slots = question.positions.len() / heads;
        let rows = |values: Option<&[f32]>| {
            let values = values.unwrap_or_default();
            tensor(values, &[values.len() / slots.max(1), slots])
        };
        let raw = abi::brl_keep_in {
            struct_size: size::<abi::brl_keep_in>(),
            sequence: call.sequence,
            step: call.step,
            phase: match question.phase {
                Phase::Prefill => abi::BRL_PHASE_PREFILL,
                Phase::Decode => abi::BRL_PHASE_DECODE,
            },
            layer: question.layer as u64,
            layers: question.layers as u64,
            heads: question.heads as u64,
            prompt: question.prompt as u64,
            length: question.length as u64,
            positions: ids(question.positions),
            stream: ids(question.stream),
            column: rows(question.column),
            accumulated: rows(question.accumulated),
            key_norm: rows(question.key_norm),
        };
        let mut kept = abi::brl_kept {
            struct_size: size::<abi::brl_kept>(),
            slots: abi::brl_u32s {
                ptr: std::ptr::null_mut(),
                len: (heads * slots) as u64,
            },
            slot_count: abi::BRL_ALL,
            heads: 1,
            stream: abi::brl_u32s {
                ptr: std::ptr::null_mut(),
                len: question.stream.len() as u64,
            },
            stream_count: abi::BRL_ALL,
            next_check: abi::BRL_ALL,
        };
        let place = &raw mut kept;
        self.instance.ask(
            KEEP,
            call,
            |instance, frame, scratch| {
                // SAFETY: the place is ours until the call.
                unsafe {
                    (*place).slots.ptr = scratch.first.clear(heads * slots);
                    (*place).stream.ptr = scratch.second.clear(question.stream.len());
                }
                // SAFETY: the instance is the plugin's; question, frame, buffers and answer live until it returns.
                unsafe { keep(instance, frame, &raw const raw, place) }
            },
            |scratch| {
                // SAFETY: the call has returned, and the place is ours again.
                let raw = unsafe { *place };
                let taken = |all: &[u32], count: u64, what: &str| -> Result<Option<Vec<u32>>> {
                    if count == abi::BRL_ALL {
                        return Ok(None);
                    }
                    usize::try_from(count)
                        .ok()
                        .and_then(|count| all.get(..count))
                        .map(|list| Some(list.to_vec()))
                        .ok_or_else(|| nonsense(format!("it kept {count} of {} {what}", all.len())))
                };
                let lists = taken(scratch.first.values(), raw.slot_count, "slots")?;
                let stream = taken(scratch.second.values(), raw.stream_count, "rows")?;
                if let Some(list) = &lists {
                    if raw.heads != 1 && raw.heads != heads as u64 {
                        return Err(nonsense(format!(
                            "lists for {} heads of {heads}",
                            raw.heads
                        )));
                    }
                    let each = list.len() / raw.heads as usize;
                    if each == 0 || each * raw.heads as usize != list.len() {
                        return Err(nonsense(format!(
                            "{} slots cannot be kept by {} heads alike",
                            list.len(),
                            raw.heads
                        )));
                    }
                    for head in list.chunks(each) {
                        check_list(head, slots, "slot")?;
                        if head.last().map(|&last| last as usize + 1) != Some(slots) {
                            return Err(nonsense("the newest slot must be kept"));
                        }
                    }
                }
                if let Some(list) = &stream {
                    check_list(list, question.stream.len(), "row")?;
                    if list.last().map(|&last| last as usize + 1) != Some(question.stream.len()) {
                        return Err(nonsense("the last row of the stream must go on"));
                    }
                }
                Ok(Eviction {
                    slots: lists,
                    heads: raw.heads as usize,
                    stream,
                    next_check: (raw.next_check != abi::BRL_ALL).then_some(raw.next_check),
                })
            },
        )
    }
}

impl Codec for Asked<abi::brl_kv_codec> {
    fn plan(&self, call: &Call<'_>, question: &CodecQuestion) -> Result<Option<CodecFormat>> {
        let Some(plan) = self.table.plan else {
            return Ok(None);
        };
        let raw = abi::brl_codec_in {
            struct_size: size::<abi::brl_codec_in>(),
            layer: question.layer as u64,
            layers: question.layers as u64,
            head_width: question.head_width as u64,
            side: match question.side {
                CodecSide::Key => abi::BRL_SIDE_KEY,
                CodecSide::Value => abi::BRL_SIDE_VALUE,
            },
        };
        let mut answer = abi::brl_codec_plan {
            struct_size: size::<abi::brl_codec_plan>(),
            bits: 0,
            group: 0,
            axis: abi::BRL_AXIS_TOKEN,
            residual: 0,
        };
        let place = &raw mut answer;
        self.instance.ask(
            CODEC,
            call,
            // SAFETY: the instance is the plugin's; question, frame and answer live until it returns.
            |instance, frame, _| unsafe { plan(instance, frame, &raw const raw, place) },
            |_| {
                // SAFETY: the call has returned, and the place is ours again.
                let answer = unsafe { *place };
                if ![2, 4, 8].contains(&answer.bits) {
                    return Err(nonsense(format!("{} bits a number", answer.bits)));
                }
                if answer.group == 0 || answer.group > 1 << 20 || answer.residual > 1 << 40 {
                    return Err(nonsense(format!(
                        "groups of {} numbers, {} tokens left out",
                        answer.group, answer.residual
                    )));
                }
                let axis = match answer.axis {
                    abi::BRL_AXIS_CHANNEL => CodecAxis::Channel,
                    abi::BRL_AXIS_TOKEN => CodecAxis::Token,
                    other => return Err(nonsense(format!("there is no axis {other}"))),
                };
                Ok(CodecFormat {
                    bits: answer.bits as u32,
                    group: answer.group as usize,
                    axis,
                    residual: answer.residual as usize,
                })
            },
        )
    }
}
