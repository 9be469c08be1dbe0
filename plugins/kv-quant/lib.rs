//! KIVI (Liu et al. 2024, arXiv 2402.02750): a cache stored in few bits, keys grouped along channels and values along
//! tokens, the latest tokens left as they are. The host packs and unpacks; this plugin says how.

use brillm_plugin::{
    CodecAxis, CodecFormat, CodecHook, CodecQuestion, CodecSide, Host, Plugin, Result, export,
};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Options {
    bits: u32,
    key_bits: u32,
    value_bits: u32,
    group: usize,
    residual: usize,
}

struct Quant(Options);

impl Plugin for Quant {
    type Options = Options;

    fn create(options: Options) -> Result<Self> {
        Ok(Self(options))
    }
}

impl Quant {
    fn format(&self, side: CodecSide, head_width: usize) -> CodecFormat {
        let own = match side {
            CodecSide::Key => self.0.key_bits,
            CodecSide::Value => self.0.value_bits,
        };
        let bits = if own == 0 { self.0.bits } else { own };
        let (axis, group) = match side {
            CodecSide::Key => (CodecAxis::Channel, self.0.group),
            // A token's value in a head has no more channels than the head is wide.
            CodecSide::Value => (CodecAxis::Token, self.0.group.min(head_width.max(1))),
        };
        CodecFormat {
            bits,
            group,
            axis,
            residual: self.0.residual,
        }
    }
}

impl CodecHook for Quant {
    fn plan(&mut self, _: &mut Host, question: &CodecQuestion) -> Result<Option<CodecFormat>> {
        Ok(Some(self.format(question.side, question.head_width)))
    }
}

export! {
    Quant {
        id: "org.brillm.kv-quant",
        about: "Stores the cache in 2, 4 or 8 bits: keys by channel, values by token (KIVI).",
        license: "MIT OR Apache-2.0",
        schema: r#"{"type": "object", "additionalProperties": false, "properties": {
            "bits": {"enum": [2, 4, 8], "default": 4, "description": "bits of a number"},
            "key-bits": {"enum": [0, 2, 4, 8], "default": 0, "description": "of keys; 0 as bits says"},
            "value-bits": {"enum": [0, 2, 4, 8], "default": 0, "description": "of values; 0 as bits says"},
            "group": {"type": "integer", "minimum": 1, "maximum": 4096, "default": 32,
                "description": "numbers that share a scale and a zero"},
            "residual": {"type": "integer", "minimum": 0, "maximum": 1000000000, "default": 32,
                "description": "latest tokens that stay as they are, at least"}}}"#,
        hooks: [CodecHook],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_by_channel_and_values_by_token() {
        let plugin = Quant(Options {
            bits: 4,
            key_bits: 0,
            value_bits: 2,
            group: 32,
            residual: 16,
        });
        let plan = |bits, group, axis| CodecFormat {
            bits,
            group,
            axis,
            residual: 16,
        };
        assert_eq!(
            plugin.format(CodecSide::Key, 8),
            plan(4, 32, CodecAxis::Channel)
        );
        assert_eq!(
            plugin.format(CodecSide::Value, 8),
            plan(2, 8, CodecAxis::Token)
        );
        assert_eq!(
            plugin.format(CodecSide::Value, 64),
            plan(2, 32, CodecAxis::Token)
        );
    }
}
