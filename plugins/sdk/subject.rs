//! The run's model, asked by a probe: [`Subject`].

use std::ffi::c_void;

use brillm_abi as abi;

use crate::{Error, Result, view};

/// Which way a model goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A signal over a graph.
    Graph,
    /// Layers of attention.
    Transformer,
}

/// What a text leaves in a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The own vector of each token's node, on the graph. `[1, T, D]`
    Node,
    /// The signal as each node passes it on, on the graph. `[1, T, D]`
    Signal,
    /// The energies of all next nodes at each node, on the graph. `[1, T, V]`
    Energy,
    /// The hidden stream after each layer of a transformer; layer 0 is the embedding. `[L + 1, T, D]`
    Hidden,
}

impl State {
    fn code(self) -> u64 {
        match self {
            Self::Node => abi::BRL_STATE_NODE,
            Self::Signal => abi::BRL_STATE_SIGNAL,
            Self::Energy => abi::BRL_STATE_ENERGY,
            Self::Hidden => abi::BRL_STATE_HIDDEN,
        }
    }
}

/// The run's model. Every answer is a function of the model and the question alone.
pub struct Subject<'a> {
    raw: &'a abi::brl_subject,
}

unsafe extern "C" fn collect(ctx: *mut c_void, bytes: abi::brl_str) -> abi::brl_status {
    // SAFETY: `Subject::record` made the context of a vector that outlives the sink; the host's view holds for this
    // call.
    unsafe { (*ctx.cast::<Vec<u8>>()).extend_from_slice(view::bytes(bytes)) };
    abi::BRL_OK
}

impl<'a> Subject<'a> {
    pub(crate) fn new(raw: &'a abi::brl_subject) -> Self {
        Self { raw }
    }

    /// Which way the model goes.
    pub fn kind(&self) -> Kind {
        match self.raw.kind {
            abi::BRL_SUBJECT_GRAPH => Kind::Graph,
            _ => Kind::Transformer,
        }
    }

    /// Layers, without the embedding; 1 on the graph.
    pub fn layers(&self) -> usize {
        self.raw.layers as usize
    }

    /// `D`.
    pub fn width(&self) -> usize {
        self.raw.width as usize
    }

    /// `V`.
    pub fn nodes(&self) -> usize {
        self.raw.nodes as usize
    }

    fn record(
        what: &str,
        ask: impl FnOnce(*const abi::brl_sink) -> abi::brl_status,
    ) -> Result<Vec<u8>> {
        let mut bytes: Vec<u8> = Vec::new();
        let sink = abi::brl_sink {
            ctx: (&raw mut bytes).cast(),
            write: Some(collect),
        };
        match ask(&raw const sink) {
            abi::BRL_OK => Ok(bytes),
            abi::BRL_E_CANCELLED => Err(Error::cancelled()),
            status => Err(Error::status(status, what)),
        }
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// Whatever the engine meets.
    pub fn tokens(&mut self, text: &str) -> Result<Vec<u32>> {
        let ask = self.raw.tokens.ok_or("this engine tells no tokens")?;
        // SAFETY: the context is the host's for this call; text and sink live until it returns.
        let bytes = Self::record("tokens", |sink| unsafe {
            ask(self.raw.ctx, view::lend(text), sink)
        })?;
        Ok(bytes
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| u32::from_ne_bytes(bytes))
            .collect())
    }

    /// −ln p of each token of `answer` after `prompt`. `[T]`
    ///
    /// # Errors
    /// Whatever the engine meets.
    pub fn resist(&mut self, prompt: &str, answer: &str) -> Result<Vec<f64>> {
        let ask = self.raw.resist.ok_or("this engine tells no resistance")?;
        // SAFETY: as above.
        let bytes = Self::record("resist", |sink| unsafe {
            ask(self.raw.ctx, view::lend(prompt), view::lend(answer), sink)
        })?;
        Ok(bytes
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| f64::from_ne_bytes(bytes))
            .collect())
    }

    /// What a text leaves, layer by layer, token by token.
    ///
    /// # Errors
    /// Whatever the engine meets; a state that this kind of model does not have.
    pub fn states(&mut self, state: State, text: &str) -> Result<Vec<f32>> {
        let ask = self.raw.states.ok_or("this engine tells no states")?;
        // SAFETY: as above.
        let bytes = Self::record("states", |sink| unsafe {
            ask(self.raw.ctx, state.code(), view::lend(text), sink)
        })?;
        Ok(bytes
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| f32::from_ne_bytes(bytes))
            .collect())
    }

    /// From here on the weights that training by `seed` would begin with; the model's own for `None`.
    ///
    /// # Errors
    /// Whatever the engine meets.
    pub fn untrained(&mut self, seed: Option<u64>) -> Result<()> {
        let ask = self
            .raw
            .untrained
            .ok_or("this engine has no untrained weights")?;
        let seed = seed.map_or(0, |seed| seed.max(1));
        // SAFETY: the context is the host's for this call.
        match unsafe { ask(self.raw.ctx, seed) } {
            abi::BRL_OK => Ok(()),
            status => Err(Error::status(status, "untrained")),
        }
    }

    /// From here on adds `delta` to one node's bias, on the graph; an empty one takes the shift away. `delta [D]`
    ///
    /// # Errors
    /// Whatever the engine meets.
    pub fn shift(&mut self, node: u32, delta: &[f32]) -> Result<()> {
        let ask = self.raw.shift.ok_or("this engine shifts no node")?;
        let tensor = abi::brl_tensor {
            ptr: match delta.is_empty() {
                true => std::ptr::null(),
                false => delta.as_ptr().cast(),
            },
            dtype: abi::BRL_F32,
            rank: 1,
            shape: [delta.len() as u64, 0, 0, 0],
            stride: [1, 0, 0, 0],
        };
        // SAFETY: the context is the host's for this call; the numbers live until it returns.
        match unsafe { ask(self.raw.ctx, u64::from(node), tensor) } {
            abi::BRL_OK => Ok(()),
            status => Err(Error::status(status, "shift")),
        }
    }
}
