//! Plugins that misbehave on demand, or change resistances on the CPU and in a shader.

use super::*;

/// A plugin that misbehaves as its option selects.
pub(crate) struct Faulty(FaultyOptions);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FaultyOptions {
    mode: String,
    after: u64,
}

impl Plugin for Faulty {
    type Options = FaultyOptions;
    fn create(options: FaultyOptions) -> Result<Self> {
        match options.mode.as_str() {
            "create" => Err(PluginError::option("it never likes its options")),
            "create-panic" => panic!("created in anger"),
            _ => Ok(Self(options)),
        }
    }
}

impl EdgeHook for Faulty {
    fn resist(&mut self, host: &mut Host, _: &Fan, resistance: &mut [f32]) -> Result<Answer> {
        if host.step < self.0.after {
            return Ok(Answer::Declined);
        }
        match self.0.mode.as_str() {
            "error" => Err(PluginError::new("it does not feel like it")),
            "panic" => panic!("the edges are too sharp"),
            "invalid" => {
                resistance.fill(f32::NAN);
                Ok(Answer::Given)
            }
            "hang" => loop {
                std::thread::sleep(std::time::Duration::from_millis(20));
                if host.cancelled() {
                    return Err(PluginError::cancelled());
                }
            },
            "crash" => std::process::abort(),
            "dice" => {
                // Random numbers of its own: no run replays.
                let address = std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .map_or(0, |time| time.as_nanos());
                if let Some(first) = resistance.first_mut() {
                    *first += (address % 1_000_003) as f32;
                }
                Ok(Answer::Given)
            }
            _ => Ok(Answer::Declined),
        }
    }
}

pub(crate) const HALF: ShaderSource = ShaderSource {
    id: "wgsl/1:edge/1",
    entry_point: "resist",
    workgroup: 64,
    source: "
        @group(0) @binding(0) var<storage, read> energies: array<f32>;          // [V]
        @group(0) @binding(1) var<storage, read> counts: array<u32>;            // [V]
        @group(0) @binding(2) var<storage, read_write> resistance: array<f32>;  // [V]
        @group(0) @binding(3) var<uniform> place: vec4<u32>;                    // source, step, V, 0
        @compute @workgroup_size(64)
        fn resist(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < place.z { resistance[id.x] = 0.5 * resistance[id.x]; }
        }",
};

/// Halves every resistance, on the CPU and as a shader.
pub(crate) struct Half;

impl Plugin for Half {
    type Options = serde::de::IgnoredAny;
    fn create(_: Self::Options) -> Result<Self> {
        Ok(Self)
    }
}

impl EdgeHook for Half {
    fn resist(&mut self, _: &mut Host, _: &Fan, resistance: &mut [f32]) -> Result<Answer> {
        resistance.iter_mut().for_each(|value| *value *= 0.5);
        Ok(Answer::Given)
    }
}
