//! A transformer's memory: [`KvPlan`] and [`KvKeep`].

use std::ffi::c_void;

use brillm_abi as abi;

use crate::door::{Tables, answered, enter};
use crate::{Answer, Call, Error, Plugin, Result, view};

/// How the distance between two layers' mean keys (or values) is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// Mean over heads and positions of the Euclidean distance along the head's width (KVSharer's code).
    MeanOfNorms,
    /// Euclidean distance of all numbers as one vector (KVSharer's text).
    Flattened,
    /// 1 − cosine of all numbers as one vector.
    Cosine,
    /// Euclidean distance of all numbers as one vector, each scaled to length 1.
    Normalised,
}

/// Tries the model on the run's calibration text.
pub struct Trial<'a> {
    question: &'a abi::brl_plan_in,
}

impl Trial<'_> {
    /// Distances between layers: keys `[L, L]`, values `[L, L]`.
    ///
    /// # Errors
    /// When the engine could not run the model.
    pub fn distances(&mut self, measure: Distance) -> Result<(Vec<f64>, Vec<f64>)> {
        let Some(distances) = self.question.distances else {
            return Err(Error::new("the engine cannot measure distances"));
        };
        let measure = match measure {
            Distance::MeanOfNorms => abi::BRL_DISTANCE_MEAN_OF_NORMS,
            Distance::Flattened => abi::BRL_DISTANCE_FLATTENED,
            Distance::Cosine => abi::BRL_DISTANCE_COSINE,
            Distance::Normalised => abi::BRL_DISTANCE_NORMALISED,
        };
        let layers = self.question.layers as usize;
        let (mut keys, mut values) = (vec![0.0; layers * layers], vec![0.0; layers * layers]);
        let context: *mut c_void = self.question.trial_ctx;
        // SAFETY: the context is the host's for this call, the buffers hold L·L numbers.
        let status = unsafe { distances(context, measure, keys.as_mut_ptr(), values.as_mut_ptr()) };
        match status {
            abi::BRL_OK => Ok((keys, values)),
            status => Err(Error::status(status, "distances")),
        }
    }

    /// Mean cosine of the final hidden states under a map with those under the identity.
    ///
    /// # Errors
    /// For a map that is none, or when the engine could not run the model.
    pub fn similarity(&mut self, source: &[u32]) -> Result<f64> {
        let Some(similarity) = self.question.similarity else {
            return Err(Error::new("the engine cannot try maps"));
        };
        if source.len() as u64 != self.question.layers {
            return Err(Error::new("a map has one entry a layer"));
        }
        let mut cosine = 0.0;
        let context: *mut c_void = self.question.trial_ctx;
        // SAFETY: the context is the host's for this call, the map has L entries.
        let status = unsafe {
            similarity(
                context,
                source.as_ptr(),
                source.len() as u64,
                &raw mut cosine,
            )
        };
        match status {
            abi::BRL_OK => Ok(cosine),
            status => Err(Error::status(status, "similarity")),
        }
    }
}

/// The geometry of a transformer's cache.
#[derive(Clone, Copy, Debug)]
pub struct PlanQuestion<'a> {
    /// Layers, `L`.
    pub layers: usize,
    /// Longest context.
    pub context: usize,
    /// Query heads of each layer. `[L]`
    pub query_heads: &'a [u32],
    /// Key and value heads of each layer. `[L]`
    pub kv_heads: &'a [u32],
    /// Width of a head in each layer. `[L]`
    pub head_width: &'a [u32],
}

/// The answer of a planner. It arrives as identity and the run's own storage.
#[derive(Debug)]
pub struct Storage<'a> {
    /// Whose keys and values each layer reads: itself, or a layer before it that reads its own. `[L]`
    pub source: &'a mut [u32],
    /// Bits of a number in each layer's cache: 32, 16, or 0 for the run's own. `[L]`
    pub bits: &'a mut [u32],
}

/// `kv.plan/1`: whose keys and values each layer reads.
pub trait KvPlan: Plugin {
    /// Wants to try the model.
    const TRIAL: bool = false;

    /// Writes the plan; `trial` is `None` where the run has no text for it.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn plan(
        &mut self,
        call: &mut Call<'_>,
        question: &PlanQuestion<'_>,
        trial: Option<Trial<'_>>,
        storage: Storage<'_>,
    ) -> Result<Answer>;
}

unsafe extern "C" fn plan<T: KvPlan>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    question: *const abi::brl_plan_in,
    source: abi::brl_u32s,
    storage: abi::brl_u32s,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        // SAFETY: the host's table, valid for this call.
        let raw = unsafe { view::read(question) }.ok_or("there is no question")?;
        // SAFETY: the host's views and buffers, valid and ours for this call.
        let (question, storage) = unsafe {
            (
                PlanQuestion {
                    layers: raw.layers as usize,
                    context: raw.context as usize,
                    query_heads: view::ids(raw.query_heads),
                    kv_heads: view::ids(raw.kv_heads),
                    head_width: view::ids(raw.head_width),
                },
                Storage {
                    source: view::ids_mut(source),
                    bits: view::ids_mut(storage),
                },
            )
        };
        let trial = raw.similarity.map(|_| Trial { question: &raw });
        plugin.plan(call, &question, trial, storage).map(answered)
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

impl<T: KvPlan> Tables<T> {
    /// The table of `kv.plan/1`.
    pub const KV_PLAN: abi::brl_kv_plan = abi::brl_kv_plan {
        struct_size: size_of::<abi::brl_kv_plan>() as u64,
        needs: if T::TRIAL { abi::BRL_NEED_TRIAL } else { 0 },
        plan: Some(plan::<T>),
    };
}

/// How the heads of a layer become rows of a statistic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Heads {
    /// Mean over all query heads: one row.
    #[default]
    All,
    /// Mean over the query heads of each key-value head.
    GroupMean,
    /// Maximum over the query heads of each key-value head.
    GroupMaximum,
}

/// A weighted mean of attention over the last queries; weights run linearly from the oldest to the newest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColumnSum {
    /// How many of the last queries.
    pub window: usize,
    /// Weight of the oldest of them.
    pub oldest: f64,
    /// Weight of the newest.
    pub newest: f64,
    /// How heads become rows.
    pub heads: Heads,
}

/// What a [`KvKeep`] wants to be given for a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KeepWants {
    /// Mean attention of the last queries.
    pub column: Option<ColumnSum>,
    /// Attention summed over all queries so far.
    pub accumulated: bool,
    /// The norm of each key.
    pub key_norm: bool,
}

/// When a layer is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The prompt has just passed through the layer.
    Prefill,
    /// A new token has, and the layer is longer than `next_check`.
    Decode,
}

/// A layer to decide about: N slots in use by each head, R rows of the hidden stream, G rows of heads.
///
/// `heads` is 1 unless a statistic by head was asked for (a column of groups, accumulated, norms) of a model with
/// several key-value heads; then each head has a row of its own in `positions`, since after a pruning they may hold
/// different tokens. Statistics lie in the same order.
#[derive(Clone, Copy, Debug)]
pub struct KeepQuestion<'a> {
    /// The sequence, unique within the run.
    pub sequence: u64,
    /// When.
    pub phase: Phase,
    /// The layer.
    pub layer: usize,
    /// Layers, `L`.
    pub layers: usize,
    /// Key-value heads that may keep different slots; 1 where all heads of a layer keep the same.
    pub heads: usize,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of the sequence so far, kept or not.
    pub length: usize,
    /// Original position of each slot, ascending within a head. `[heads, N]`
    pub positions: &'a [u32],
    /// Original position of each row of the hidden stream, ascending; empty in decoding. `[R]`
    pub stream: &'a [u32],
    /// As wanted; else empty. `[G, N]`
    pub column: &'a [f32],
    /// As wanted; else empty. `[H_kv, N]`
    pub accumulated: &'a [f32],
    /// As wanted; else empty. `[H_kv, N]`
    pub key_norm: &'a [f32],
}

impl<'a> KeepQuestion<'a> {
    /// Slots that each head uses, N.
    pub fn slots(&self) -> usize {
        self.positions.len() / self.heads.max(1)
    }

    /// Original positions of a head's slots, ascending. `[N]`
    pub fn head(&self, head: usize) -> &'a [u32] {
        let slots = self.slots();
        &self.positions[head * slots..(head + 1) * slots]
    }

    /// A statistic's row for a head: its own where there is one a head, else the mean of all rows. `[N]`
    ///
    /// # Errors
    /// Where the engine did not supply the statistic.
    pub fn row(&self, statistic: &[f32], head: usize) -> Result<Vec<f32>> {
        let slots = self.slots();
        let rows = statistic.len() / slots.max(1);
        if slots == 0 || rows == 0 {
            return Err(Error::new("the engine did not supply the statistic"));
        }
        if rows == self.heads {
            return Ok(statistic[head * slots..(head + 1) * slots].to_vec());
        }
        let mut mean = vec![0.0; slots];
        for row in statistic.chunks_exact(slots) {
            for (mean, value) in mean.iter_mut().zip(row) {
                *mean += value / rows as f32;
            }
        }
        Ok(mean)
    }
}

/// The decision about a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eviction {
    /// Slots kept: one ascending list of indices, 0 to N, into each head's row of `positions`, or one list for each of
    /// the question's `heads`, all equally long. The newest slot must be among them. `None` keeps all.
    pub slots: Option<Vec<Vec<u32>>>,
    /// Rows of the hidden stream that go on: ascending indices into `stream`, the last row among them. `None`
    /// lets all go on.
    pub stream: Option<Vec<u32>>,
    /// Slots beyond which the layer is asked about again in decoding; `None` never.
    pub next_check: Option<u64>,
}

/// `kv.keep/1`: which slots stay and which rows of the hidden stream go on.
pub trait KvKeep: Plugin {
    /// A prompt of this length begins; state of an earlier sequence of this number ends.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn begin(&mut self, _call: &mut Call<'_>, _sequence: u64, _prompt: usize) -> Result<KeepWants> {
        Ok(KeepWants::default())
    }

    /// Decides about a layer; `None` keeps everything.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn keep(
        &mut self,
        call: &mut Call<'_>,
        question: &KeepQuestion<'_>,
    ) -> Result<Option<Eviction>>;
}

unsafe extern "C" fn begin<T: KvKeep>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    sequence: u64,
    prompt: u64,
    wants: *mut abi::brl_keep_wants,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        let answer = plugin.begin(call, sequence, prompt as usize)?;
        // SAFETY: the host's table to be written, as long as it says.
        unsafe {
            if !view::whole(wants) {
                return Ok(abi::BRL_E_BUFFER);
            }
            let wants = &mut *wants;
            wants.needs = (if answer.accumulated {
                abi::BRL_NEED_ACCUMULATED
            } else {
                0
            }) | (if answer.key_norm {
                abi::BRL_NEED_KEY_NORM
            } else {
                0
            });
            if let Some(column) = answer.column {
                wants.column_window = column.window as u64;
                wants.column_oldest = column.oldest;
                wants.column_newest = column.newest;
                wants.column_heads = match column.heads {
                    Heads::All => abi::BRL_HEADS_ALL,
                    Heads::GroupMean => abi::BRL_HEADS_GROUP_MEAN,
                    Heads::GroupMaximum => abi::BRL_HEADS_GROUP_MAXIMUM,
                };
            }
        }
        Ok(abi::BRL_OK)
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

unsafe extern "C" fn keep<T: KvKeep>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    question: *const abi::brl_keep_in,
    eviction: *mut abi::brl_kept,
) -> abi::brl_status {
    let body = |plugin: &mut T, call: &mut Call<'_>| {
        // SAFETY: the host's table, valid for this call.
        let raw = unsafe { view::read(question) }.ok_or("there is no question")?;
        // SAFETY: the host's views, valid for this call.
        let question = unsafe {
            KeepQuestion {
                sequence: raw.sequence,
                phase: if raw.phase == abi::BRL_PHASE_PREFILL {
                    Phase::Prefill
                } else {
                    Phase::Decode
                },
                layer: raw.layer as usize,
                layers: raw.layers as usize,
                heads: raw.heads as usize,
                prompt: raw.prompt as usize,
                length: raw.length as usize,
                positions: view::ids(raw.positions),
                stream: view::ids(raw.stream),
                column: view::floats(&raw.column),
                accumulated: view::floats(&raw.accumulated),
                key_norm: view::floats(&raw.key_norm),
            }
        };
        let Some(answer) = plugin.keep(call, &question)? else {
            return Ok(abi::BRL_DECLINED);
        };
        // SAFETY: the host's table and buffers, valid and ours for this call.
        unsafe {
            if !view::whole(eviction) {
                return Ok(abi::BRL_E_BUFFER);
            }
            let eviction = &mut *eviction;
            if let Some(lists) = &answer.slots {
                let room = view::ids_mut(eviction.slots);
                let flat: Vec<u32> = lists.concat();
                let Some(room) = room.get_mut(..flat.len()) else {
                    return Err(Error::new("more slots are kept than there are"));
                };
                if lists.iter().any(|list| list.len() != lists[0].len()) {
                    return Err(Error::new("the heads keep different numbers of slots"));
                }
                room.copy_from_slice(&flat);
                eviction.slot_count = flat.len() as u64;
                eviction.heads = lists.len() as u64;
            }
            if let Some(rows) = &answer.stream {
                let room = view::ids_mut(eviction.stream);
                let Some(room) = room.get_mut(..rows.len()) else {
                    return Err(Error::new("more rows go on than there are"));
                };
                room.copy_from_slice(rows);
                eviction.stream_count = rows.len() as u64;
            }
            eviction.next_check = answer.next_check.unwrap_or(abi::BRL_ALL);
        }
        Ok(abi::BRL_OK)
    };
    // SAFETY: the host passes what `create` made, one call at a time.
    unsafe { enter(instance, call, body) }
}

impl<T: KvKeep> Tables<T> {
    /// The table of `kv.keep/1`.
    pub const KV_KEEP: abi::brl_kv_keep = abi::brl_kv_keep {
        struct_size: size_of::<abi::brl_kv_keep>() as u64,
        needs: 0,
        begin: Some(begin::<T>),
        keep: Some(keep::<T>),
    };
}
