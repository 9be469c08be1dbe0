//! KIVI (Liu et al. 2024, arXiv 2402.02750): the cache in few bits, keys grouped along channels and values along
//! tokens, the most recent tokens in full precision. The engine packs and unpacks; this plugin chooses the format.

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
            // A group cannot be longer than a token's value vector in one head.
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
        about: "Store the cache in 2, 4 or 8 bits: keys by channel, values by token (KIVI).",
        license: "MIT OR Apache-2.0",
        schema: r#"{"type": "object", "additionalProperties": false, "properties": {
            "bits": {"enum": [2, 4, 8], "default": 4, "description": "bits per number"},
            "key-bits": {"enum": [0, 2, 4, 8], "default": 0, "description": "bits per number of keys; 0 for the value of bits"},
            "value-bits": {"enum": [0, 2, 4, 8], "default": 0, "description": "bits per number of values; 0 for the value of bits"},
            "group": {"type": "integer", "minimum": 1, "maximum": 4096, "default": 32,
                "description": "numbers with a common scale and zero point"},
            "residual": {"type": "integer", "minimum": 0, "maximum": 1000000000, "default": 32,
                "description": "most recent tokens kept in full precision, at least"}}}"#,
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
