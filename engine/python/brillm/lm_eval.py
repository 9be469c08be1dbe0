"""A model of EleutherAI's lm-evaluation-harness.

``lm_eval --model brillm --model_args pretrained=model.bril --tasks …`` finds it by its entry point, in versions of the
harness that read entry points (after 0.4.13). ``python -m brillm.lm_eval`` takes the same arguments and works with others too.
"""

from __future__ import annotations

import sys
from typing import Any, List, Optional, Tuple

import lm_eval.models  # noqa: F401  (registers the harness's own models first)
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model

import brillm

if __name__ == "__main__":
    # The class that the harness finds is that of the module, not of this program.
    import brillm.lm_eval

    sys.exit(brillm.lm_eval.main())

#: New tokens where a task states no number.
NEW_TOKENS = 256


@register_model("brillm")
class BrillmLM(TemplateLM):
    """A graph or a transformer in the harness.

    Args:
        pretrained: A ``.bril`` file or a folder in Hugging Face's layout; the built-in English model by default.
        plugins: Plugins, separated by ``+``: ``kv-heavy:recent=256``.
        max_length: Tokens of a context; longer ones lose their beginning. The model's limit by default.
    """

    backend = "causal"

    def __init__(
        self,
        pretrained: Optional[str] = None,
        plugins: Optional[str] = None,
        max_length: Optional[int] = None,
        **_harness: Any,  # batch_size, device, …: of no meaning here
    ) -> None:
        super().__init__()
        self.model = brillm.load(pretrained or None)
        self._plugins = [name for name in (plugins or "").split("+") if name]
        self._length = max_length or self.model.context

    @property
    def eot_token_id(self) -> Optional[int]:
        """The token that ends a text; it is the context of a text that has none."""
        return self.model.stop_tokens[0] if self.model.stop_tokens else None

    @property
    def tokenizer_name(self) -> str:
        """The name of the tokenizer, for the harness's cache of requests."""
        return self.model.name.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: Optional[bool] = None, **_options: Any) -> List[int]:
        """Encode a text as the model expects it, with its initial marks unless they are not wanted."""
        ids = self.model.encode(string)
        if add_special_tokens is False:
            marks = self.model.encode("")
            ids = ids[len(marks) :]
        return ids

    def _loglikelihood_tokens(
        self, requests: List[Tuple[Any, List[int], List[int]]], disable_tqdm: bool = False, **_options: Any
    ) -> List[Tuple[float, bool]]:
        found = []
        for _, context, continuation in requests:
            context = [token for token in context if token is not None]
            ids = context + continuation
            if self._length is not None:
                ids = ids[-self._length :]
            score = self.model.score(ids, top=1, plugins=self._plugins)
            # Without a context, the first token of a text has no probability.
            scored = min(len(continuation), len(ids) - 1)
            if scored < 1:
                found.append((0.0, True))
                continue
            values = score.log_probabilities[-scored:]
            greedy = all(top[0][0] == token for top, token in zip(score.top[-scored:], ids[-scored:]))
            found.append((float(values.sum()), greedy))
        return found

    def loglikelihood_rolling(self, requests: List[Any], disable_tqdm: bool = False) -> List[float]:
        """Log-likelihood of whole texts, each from its own beginning, as ``brillm eval --documents`` measures them."""
        found = []
        for request in requests:
            ids = self.model.encode(request.args[0])
            limit = self._length or len(ids)
            total = 0.0
            # Each token is predicted once; the blocks of a long text overlap by half.
            scored = 1
            while scored < len(ids):
                begin = 0 if scored == 1 else max(scored - limit // 2, 0)
                end = min(begin + limit, len(ids))
                values = self.model.score(ids[begin:end], plugins=self._plugins).log_probabilities
                total += float(values[scored - begin :].sum())
                scored = end
            found.append(total)
        return found

    def generate_until(self, requests: List[Any], disable_tqdm: bool = False) -> List[str]:
        """Continue contexts up to their stop texts."""
        found = []
        for request in requests:
            context, options = request.args
            until = options.get("until") or []
            tokens = int(options.get("max_gen_toks", NEW_TOKENS))
            ids = self.model.encode(context)
            if self._length is not None:
                ids = ids[-max(self._length - tokens, 1) :]
            generation = self.model.generate(
                ids,
                tokens=tokens,
                temperature=float(options.get("temperature", 0.0)) if options.get("do_sample") else 0.0,
                top_p=float(options.get("top_p", 1.0)),
                stop=[until] if isinstance(until, str) else [text for text in until if text],
                plugins=self._plugins,
            )
            found.append(generation.collect())
        return found


def main() -> Any:
    """Run the harness's command line."""
    from lm_eval.__main__ import cli_evaluate

    return cli_evaluate()
