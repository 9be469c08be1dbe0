"""Training and measuring."""

from __future__ import annotations

import json
import os
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy

from . import _native, _options
from ._errors import ConfigurationError, of_system
from ._model import Model, load


class Run(NamedTuple):
    """A training run that has ended.

    Attributes:
        folder: Folder with the log, the checkpoints and the model.
        path: The model: a file, or a folder for a transformer.
        steps: Steps taken.
        parameters: Number of trained parameters.
        validation_perplexity: The best validation perplexity; ``None`` without validation text.
        cancelled: Whether the run was ended early; ``train(…, resume=True)`` continues it.
    """

    #: Folder with the log, the checkpoints and the model.
    folder: str
    #: The model: a file, or a folder for a transformer.
    path: str
    #: Steps taken.
    steps: int
    #: Number of trained parameters.
    parameters: int
    #: The best validation perplexity; ``None`` without validation text.
    validation_perplexity: Optional[float]
    #: Whether the run was ended early; ``train(…, resume=True)`` continues it.
    cancelled: bool

    def load(self) -> Model:
        """Open the model."""
        return load(self.path)

    def log(self) -> List[Dict[str, Any]]:
        """The records of the log: ``kind`` is ``training`` or ``validation``."""
        path = os.path.join(self.folder, "log.jsonl")
        try:
            with open(path, encoding="utf-8") as file:
                return [json.loads(line) for line in file if line.strip()]
        except OSError as error:
            raise of_system(error, path) from None

    def table(self, kind: str = "training") -> Dict[str, "numpy.ndarray"]:
        """The records of a kind, ``"training"`` or ``"validation"``, as columns for ``pandas.DataFrame`` or ``pyarrow.table``."""
        if kind not in ("training", "validation"):
            raise _options.InputError(f"invalid kind {kind!r}: expected training or validation")
        records = [record for record in self.log() if record["kind"] == kind]
        keys = [key for key in (records[0] if records else {}) if key != "kind"]
        return {
            key: numpy.array([numpy.nan if record.get(key) is None else record[key] for record in records])
            for key in keys
        }

    def plot(self) -> "Picture":
        """The learning curves."""
        return plot(self.folder)

    def _repr_html_(self) -> str:
        return self.plot()._repr_html_()


class Picture(str):
    """A picture as SVG text, shown in notebooks."""

    def _repr_html_(self) -> str:
        return f'<div style="overflow-x:auto">{self}</div>'


def plot(folders: Union[_options.Path, Sequence[_options.Path]]) -> Picture:
    """Draw the learning curves of runs."""
    return Picture(_native.plot(_options.paths(folders, "folders")))


def train(
    source: Union[_options.Path, Sequence[_options.Path], Mapping[str, Any]],
    *,
    out: Optional[_options.Path] = None,
    changes: Union[None, Mapping[str, Any], Sequence[str]] = None,
    data: Optional[_options.Path] = None,
    resume: bool = False,
    callback: Optional[_options.Callback] = None,
    plugins: Union[None, _options.Plugin, Sequence[_options.Plugin]] = None,
    plugin_path: Sequence[_options.Path] = (),
) -> Run:
    """Train a model.

    >>> run = brillm.train("my.txt", out="runs/my", changes={"train.tokens": 200_000})
    >>> print(run.load().generate("Once").collect())

    Args:
        source: Paths of texts (files, folders or globs; not a text itself), a run file (``.toml``), or the keys of a run
            file as a mapping.
        out: Folder of the run; ``runs/NAME`` by default, and for texts ``runs/NAME-2`` and so on while that has a run.
        changes: Keys of the run file to change, ``{"train.rate": 0.004}`` or ``["train.rate=0.004"]``.
        data: Folder that paths in a run file or a mapping are relative to.
        resume: Continue the run that the folder contains, ``runs/NAME`` without ``out``; a folder without a run begins one.
        callback: Receives progress: ``kind`` is ``note``, ``warning``, ``step``, ``training`` or ``validation``. It is
            called on another thread; returning ``False`` ends the run with a checkpoint, as Ctrl-C does.
        plugins: Plugins by name, as in :meth:`Model.generate`.

    Raises:
        KeyboardInterrupt: After Ctrl-C, once a checkpoint, ``step-N.checkpoint``, is in the folder of the run;
            ``resume=True`` continues from it. A second Ctrl-C does not wait for the checkpoint.
    """
    files: List[str] = []
    recipe = None
    if isinstance(source, Mapping):
        recipe = _options.document(source)
    else:
        files = _options.paths(source, "source")
    listed: List[str] = []
    if isinstance(changes, Mapping):
        for key, value in changes.items():
            _options.check(value, str(key))
            listed.append(f"{key}={_value(value)}")
    elif isinstance(changes, str):
        listed = [changes]
    elif changes is not None:
        listed = _options.items(changes, "changes", "\"KEY=VALUE\"")

    try:
        trained = _native.train(
            files,
            recipe,
            [_options.text(one, "changes") for one in listed],
            None if data is None else _options.path(data, "data"),
            None if out is None else _options.path(out, "out"),
            bool(resume),
            _options.document(_options.plugins(plugins, plugin_path)),
            _options.teller(callback),
        )
    except ConfigurationError as error:
        # A mapping has no lines.
        if recipe is None or error.where is None or re.fullmatch(r"line \d+", error.where) is None:
            raise
        raise ConfigurationError(error.what, "source", error.advice) from None
    report = json.loads(trained)
    return Run(
        report["folder"],
        report["model"],
        report["steps"],
        report["parameters"],
        report["validation_perplexity"],
        report["cancelled"],
    )


def _value(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return _options.document(value)


class Evaluation(NamedTuple):
    """The outcome of an evaluation, over the full vocabulary.

    Attributes:
        perplexity: exp of the nats per token.
        nats_per_token: Mean −ln p.
        tokens: Predictions made.
        candidates: Tokens that each prediction chose among.
        bits_per_byte: Bits for each byte of text; ``None`` for ids, windows, separate documents, and texts with images or
            sounds.
    """

    #: exp of the nats per token.
    perplexity: float
    #: Mean −ln p.
    nats_per_token: float
    #: Predictions made.
    tokens: int
    #: Tokens that each prediction chose among.
    candidates: int
    #: Bits for each byte of text; ``None`` for ids, windows of them and texts with images or sounds.
    bits_per_byte: Optional[float]


def evaluate(
    model: Model,
    texts: Union[None, _options.Path, Sequence[_options.Path]] = None,
    *,
    ids: Optional[Sequence[int]] = None,
    windows: Optional[Tuple[int, int]] = None,
    first_window: int = 0,
    documents: bool = False,
    charges: Union[None, bool, str] = None,
    recall: Union[None, bool, str] = None,
    dynamic: Optional[str] = None,
    seed: int = 0,
    plugins: Union[None, _options.Plugin, Sequence[_options.Plugin]] = None,
    plugin_path: Sequence[_options.Path] = (),
) -> Evaluation:
    """Measure the perplexity of a model on held-out texts (files, folders or globs) or on tokens, as ``brillm eval``.

    Args:
        texts: Paths, also as ``str``: a text itself is measured by :meth:`Model.score`.
        ids: Tokens instead of texts.
        windows: Length and count of windows, each from a fresh state; otherwise the text is one stream.
        documents: Measure each text from a fresh state.
        charges: Charges of a graph, as in :meth:`Model.generate`; so ``recall``.
        dynamic: Learn from the stream: ``"RATE[,PULL]"``.
    """
    if not isinstance(model, Model):
        raise TypeError(f"model: expected a brillm.Model, not {type(model).__name__}")
    if (texts is None) == (ids is None):
        raise _options.InputError("nothing to measure" if texts is None else "texts and ids exclude each other",
                                  "evaluate", "pass texts, or ids=")
    options = {
        "windows": None if windows is None else _options.window(windows),
        "first_window": first_window,
        "documents": documents,
        "charges": _options.constants(charges),
        "recall": _options.constants(recall),
        "dynamic": dynamic,
        "seed": seed,
        "plugins": _options.plugins(plugins, plugin_path),
    }
    perplexity, nats, tokens, candidates, size = _native.evaluate(
        model._native,
        [] if texts is None else _options.paths(texts, "texts"),
        None if ids is None else _options.indices(ids, "ids"),
        _options.document(options),
    )
    # The windows may be a part of the text, whose bytes are not counted.
    bits = nats * tokens / numpy.log(2) / size if size and windows is None else None
    return Evaluation(perplexity, nats, tokens, candidates, None if bits is None else float(bits))


def kneser_ney(
    train: Sequence[int],
    test: Sequence[int],
    *,
    vocabulary: Optional[int] = None,
    order: int = 5,
    windows: Tuple[int, int] = (31, 400),
    stream: bool = False,
) -> Dict[int, float]:
    """Perplexity of interpolated modified Kneser-Ney models on tokens, by order from 2 to ``order``.

    Args:
        train: Tokens to count.
        test: Held-out tokens.
        vocabulary: Number of tokens; the largest id + 1 by default.
        windows: Length and count of the measured windows, each from an empty context unless ``stream``.
    """
    seen, held_out = _options.indices(train, "train"), _options.indices(test, "test")
    size = max(seen + held_out, default=0) + 1 if vocabulary is None else vocabulary
    if _options.index(order, "order") < 2:
        raise _options.InputError(f"invalid order {order}: expected a number of at least 2")
    return dict(
        _native.kneser_ney(
            seen,
            held_out,
            _options.index(size, "vocabulary"),
            _options.index(order, "order"),
            _options.window(windows),
            bool(stream),
        )
    )
