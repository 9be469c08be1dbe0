//! The hooks of a run.

use std::fmt;
use std::sync::Arc;

use crate::hook::{
    Codec, Corpus, Edge, Keep, Mask, Order, Path, Plan, Probe, Sample, SampleNeeds, Shader, Signal,
    Tap,
};

/// The hooks of a run. Empty by default, cheap to clone.
///
/// ```
/// use std::sync::Arc;
/// use brillm::hook::{Answer, Call, Edge, Fan, Hooks};
///
/// /// Sets the resistance of the edge to one node to 0.
/// struct Open(u32);
/// impl Edge for Open {
///     fn resist(&self, _: &Call, _: &Fan, resistance: &mut [f32]) -> brillm::Result<Answer> {
///         resistance[self.0 as usize] = 0.0;
///         Ok(Answer::Given)
///     }
/// }
/// let mut hooks = Hooks::default();
/// hooks.edge.push(Arc::new(Open(3)));
/// assert!(!hooks.is_empty());
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Hooks {
    /// `kv.plan/1`.
    pub plan: Option<Arc<dyn Plan>>,
    /// `kv.keep/1`.
    pub keep: Option<Arc<dyn Keep>>,
    /// `kv.codec/1`.
    pub codec: Option<Arc<dyn Codec>>,
    /// `sample/1`, in the order of the run's configuration.
    pub sample: Vec<Arc<dyn Sample>>,
    /// `order/1`.
    pub order: Option<Arc<dyn Order>>,
    /// `mask/1`.
    pub mask: Option<Arc<dyn Mask>>,
    /// `corpus/1`.
    pub corpus: Option<Arc<dyn Corpus>>,
    /// `probe/1`.
    pub probe: Vec<Arc<dyn Probe>>,
    /// `edge/1`, in the order of the run's configuration.
    pub edge: Vec<Arc<dyn Edge>>,
    /// `signal/1`.
    pub signal: Option<Arc<dyn Signal>>,
    /// `path/1`.
    pub path: Vec<Arc<dyn Path>>,
    /// `wgsl/1:<hook>`, in the order of their hooks.
    pub shaders: Vec<Shader>,
}

impl Hooks {
    /// Whether there are no hooks.
    pub fn is_empty(&self) -> bool {
        self.plan.is_none()
            && self.keep.is_none()
            && self.codec.is_none()
            && self.sample.is_empty()
            && self.order.is_none()
            && self.mask.is_none()
            && self.corpus.is_none()
            && self.probe.is_empty()
            && self.edge.is_empty()
            && self.signal.is_none()
            && self.path.is_empty()
    }

    /// Return the hooks of `edge/1` with their shaders; `None` if one has no shader.
    pub fn edge_shaders(&self) -> Option<Vec<(&Arc<dyn Edge>, &Shader)>> {
        let shaders: Vec<&Shader> = self
            .shaders
            .iter()
            .filter(|shader| shader.hook == "edge/1")
            .collect();
        (shaders.len() == self.edge.len()).then(|| self.edge.iter().zip(shaders).collect())
    }

    /// Whether a device can run all hooks that are called while a signal flows through a graph.
    pub fn flow_on_device(&self) -> bool {
        self.sample.is_empty()
            && self.order.is_none()
            && self.probe.is_empty()
            && self.signal.is_none()
            && self.path.is_empty()
            && self.edge_shaders().is_some()
    }

    /// Combine the needs of the sample hooks.
    pub fn sample_needs(&self) -> SampleNeeds {
        self.sample
            .iter()
            .fold(SampleNeeds::default(), |needs, hook| needs.or(hook.needs()))
    }

    /// Return the probes that observe a tap.
    pub fn probes(&self, tap: Tap) -> impl Iterator<Item = &Arc<dyn Probe>> {
        self.probe.iter().filter(move |probe| probe.wants(tap))
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Hooks")
            .field("plan", &self.plan.is_some())
            .field("keep", &self.keep.is_some())
            .field("codec", &self.codec.is_some())
            .field("sample", &self.sample.len())
            .field("order", &self.order.is_some())
            .field("mask", &self.mask.is_some())
            .field("corpus", &self.corpus.is_some())
            .field("probe", &self.probe.len())
            .field("edge", &self.edge.len())
            .field("signal", &self.signal.is_some())
            .field("path", &self.path.len())
            .field("shaders", &self.shaders.len())
            .finish()
    }
}
