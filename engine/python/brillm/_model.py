"""Models."""

from __future__ import annotations

import html
import json
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy

from . import _media, _native, _options
from ._errors import UnsupportedError
from ._explanation import Explanation
from ._generation import Generation, Score
from ._graph import Graph
from ._session import Session
from ._trace import Trace

#: A text, or the ids of its tokens.
Prompt = Union[str, Sequence[int], "numpy.ndarray"]


class Model:
    """An opened model: a graph (a ``.bril`` file), or a transformer (a folder in Hugging Face's layout).

    A model never changes: threads may share it. :func:`brillm.load` opens one.
    """

    def __init__(self, native: "_native.Model") -> None:
        self._native = native
        self._about: Dict[str, Any] = json.loads(native.about())

    @property
    def name(self) -> str:
        """The name."""
        return self._about["name"]

    @property
    def kind(self) -> str:
        """``"graph"`` or ``"transformer"``."""
        return self._about["kind"]

    @property
    def vocabulary(self) -> int:
        """Number of tokens, V."""
        return self._about["vocabulary"]

    @property
    def parameters(self) -> int:
        """Number of learned parameters."""
        return self._about["parameters"]

    @property
    def context(self) -> Optional[int]:
        """Tokens that a context can hold; ``None`` without a limit."""
        return self._about["context"]

    @property
    def stop_tokens(self) -> List[int]:
        """The tokens that end a text."""
        return self._about["stop_tokens"]

    @property
    def metadata(self) -> Dict[str, Any]:
        """What the model's file records."""
        return self._about["metadata"]

    def about(self) -> Dict[str, Any]:
        """Name, kind, sizes, license and metadata."""
        return json.loads(self._native.about())

    def encode(self, text: str) -> List[int]:
        """The tokens of a text, after the marks that the model expects before one."""
        return self._native.encode(_options.text(text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens."""
        return self._native.decode(_options.indices(ids))

    def tokens(self, ids: Sequence[int]) -> List[Dict[str, Any]]:
        """Tokens made readable: ``id``, ``text``, ``bytes_hex``, ``display``."""
        return json.loads(self._native.show(_options.indices(ids)))

    def find(self, text: str) -> Optional[int]:
        """The token whose text this is, or else that of the text after a space; ``None`` if there is neither.

        >>> model = brillm.load()
        >>> model.find("girl") == model.find(" girl")
        True
        """
        return self._native.find(_options.text(text))

    def _prompt(self, prompt: Prompt, name: str = "prompt") -> List[int]:
        if isinstance(prompt, str):
            return self._native.encode(_options.text(prompt, name))
        return _options.indices(prompt, name)

    def _token(self, token: Union[int, str]) -> int:
        if not isinstance(token, str):
            return _options.index(token)
        found = self.find(token)
        if found is None:
            raise _options.InputError(
                f"no token has the text {token!r}", self.name, "pass the id of a token; encode() gives those of a text"
            )
        return found

    def generate(
        self,
        prompt: Prompt,
        *,
        tokens: int = 128,
        temperature: float = 0.7,
        top_k: int = 0,
        top_p: float = 0.95,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        penalty_window: int = 64,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logit_bias: Optional[Mapping[int, float]] = None,
        banned: Sequence[int] = (),
        seed: int = 0,
        stop: Union[None, str, Sequence[str]] = (),
        ignore_eos: bool = False,
        start: Any = "profile",
        recall: Union[None, bool, str] = None,
        charges: Union[None, bool, str] = None,
        inject: Sequence[Tuple[int, int, float]] = (),
        force: Optional[Mapping[int, int]] = None,
        plugins: Union[None, _options.Plugin, Sequence[_options.Plugin]] = None,
        plugin_path: Sequence[_options.Path] = (),
        state: Optional[bytes] = None,
    ) -> Generation:
        """Continue a prompt.

        >>> for piece in brillm.load().generate("Once upon a time", tokens=20):
        ...     print(piece, end="", flush=True)

        Args:
            prompt: A text, or the ids of its tokens.
            tokens: Maximum number of new tokens.
            temperature: 0 always takes the most probable token.
            top_k: Sample from the K most probable tokens; 0 for all.
            top_p: Sample from the smallest set of tokens whose probabilities add up to this.
            min_p: Sample from tokens with at least this times the highest probability.
            repetition_penalty: Divide the odds of the last ``penalty_window`` tokens by this.
            presence_penalty: Subtract this from the logits of tokens that occurred.
            frequency_penalty: Subtract this for each time a token occurred.
            logit_bias: Numbers added to the logits of tokens.
            banned: Tokens that are never chosen.
            seed: The same seed gives the same text.
            stop: Text or texts that end the generation; they are not part of it.
            ignore_eos: Continue past the model's stop tokens.
            start: First signal of a graph: ``"profile"``, ``"ones"``, ``{"random": seed}`` or ``{"vector": [...]}``.
            recall: Recall past signals: ``True`` for the fitted constants, or ``"WINDOW,THETA,MU[,SLOPE]"``.
            charges: Raise recently visited tokens: ``True``, or ``"DECAY,NODE,EDGE,SCALE"``.
            inject: Energies to add: ``(step, token, energy)``. Steps count from 0, which chooses the first new token.
            force: Tokens to choose whatever their energy, by step, from 0.
            plugins: Plugins by name: ``"kv-heavy:recent=256"`` or ``("kv-heavy", {"recent": 256})``. The package has none:
                ``brillm plugin build`` builds those of the repository, and the environment variable
                ``BRILLM_PLUGIN_PATH`` names folders that are searched.
            plugin_path: Folders to search for plugins first.
            state: A saved session to continue; the prompt is appended to it.
        """
        options = {
            "tokens": tokens,
            "seed": seed,
            "sampling": {
                "temperature": temperature,
                "top_k": top_k,
                "top_p": top_p,
                "min_p": min_p,
                "repetition_penalty": repetition_penalty,
                "penalty_window": penalty_window,
                "presence_penalty": presence_penalty,
                "frequency_penalty": frequency_penalty,
                "logit_bias": _options.pairs(logit_bias, "logit_bias"),
                "banned": _options.indices(banned, "banned"),
            },
            "stop": _options.stops(stop),
            "ignore_eos": ignore_eos,
            "start": _options.start(start),
            "recall": _options.constants(recall),
            "charges": _options.constants(charges),
            "inject": _options.injections(inject),
            "force": _options.pairs(force, "force"),
            "plugins": _options.plugins(plugins, plugin_path),
        }
        ids = [] if state is not None and isinstance(prompt, str) and not prompt else self._prompt(prompt)
        saved = None if state is None else _options.state(state)
        return Generation(self._native.generate(ids, _options.document(options), saved))

    def encode_image(self, path: _options.Path) -> List[int]:
        """The tokens of a prompt that begins with the image of a PNG or PGM file.

        >>> model.generate(model.encode_image("7.png"), temperature=0).collect()
        'a seven'
        """
        return _native.encode_media(self._native, "image", _options.path(path))

    def encode_audio(self, path: _options.Path) -> List[int]:
        """The tokens of a prompt that begins with the sound of a WAV file."""
        return _native.encode_media(self._native, "audio", _options.path(path))

    def generate_image(
        self, prompt: Prompt, *, temperature: float = 0.7, top_k: int = 0, top_p: float = 0.95, seed: int = 0
    ) -> _media.Image:
        """Continue a prompt with an image: ``pixels`` is an array, ``save(path)`` writes a file.

        The model was trained with ``[data.image]``. Sampling is that of :meth:`generate`.
        """
        sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        return _media.image(self._native, self._codes(prompt, "image", 0, sampling, seed).ids)

    def generate_audio(
        self,
        prompt: Prompt,
        *,
        tokens: int = 512,
        temperature: float = 0.7,
        top_k: int = 0,
        top_p: float = 0.95,
        seed: int = 0,
    ) -> _media.Sound:
        """Continue a prompt with a sound of ``tokens`` codes at most: ``samples`` is an array, ``save(path)`` writes a file,
        and ``finish`` is ``"length"`` for a sound that was cut at that number.

        The model was trained with ``[data.audio]``. Sampling is that of :meth:`generate`.
        """
        sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        generation = self._codes(prompt, "audio", tokens, sampling, seed)
        return _media.sound(self._native, generation.ids, generation.finish)

    def _codes(self, prompt: Prompt, modality: str, tokens: int, sampling: Dict[str, Any], seed: int) -> Generation:
        options = {"tokens": tokens, "seed": seed, "sampling": sampling, "modality": modality}
        generation = Generation(self._native.generate(self._prompt(prompt), _options.document(options), None))
        generation.collect()
        return generation

    def score(
        self,
        text: Prompt,
        *,
        top: int = 0,
        plugins: Union[None, _options.Plugin, Sequence[_options.Plugin]] = None,
        plugin_path: Sequence[_options.Path] = (),
    ) -> Score:
        """Compute the log-probability of each token of a text; ``top`` likeliest tokens are listed with it."""
        ids = self._prompt(text, "text")
        chosen = _options.document(_options.plugins(plugins, plugin_path))
        values, likeliest = self._native.score(ids, _options.index(top, "top"), chosen)
        return Score(numpy.array(ids, numpy.uint32), numpy.array(values), likeliest if top else [])

    def trace(
        self,
        prompt: Prompt,
        *,
        tokens: int = 24,
        candidates: int = 24,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 0.95,
        min_p: float = 0.0,
        banned: Sequence[int] = (),
        seed: int = 0,
        ignore_eos: bool = False,
        start: Any = "profile",
        recall: Union[None, bool, str] = None,
        interventions: Sequence[Mapping[str, Any]] = (),
        mute: Union[int, str, Sequence[Union[int, str]]] = (),
        mute_signals: Sequence[int] = (),
        plugins: Union[None, _options.Plugin, Sequence[_options.Plugin]] = None,
        plugin_path: Sequence[_options.Path] = (),
    ) -> Trace:
        """Continue a prompt and record each step: candidates, probabilities, and what made the choice.

        Args:
            candidates: Candidates listed for each step; the chosen one is always among them.
            mute: Token or tokens that cannot be chosen.
            mute_signals: Positions of the path that are taken out of the context of later tokens (graphs). A muted
                signal changes the signals after it too, so the prediction may move by more than its contribution, which
                is exact for one step given the gates.
            interventions: Other changes, as the document ``brillm-trace/1`` describes them.

        The other arguments are those of :meth:`generate`.
        """
        muted = _options.indices(mute_signals, "mute_signals")
        changes = _options.changes(interventions)
        changes += [{"kind": "mute_node", "node": self._token(token)} for token in _options.several(mute, "mute")]
        changes += [{"kind": "mute_signal", "position": position} for position in muted]
        options = {
            "tokens": tokens,
            "candidates": candidates,
            "seed": seed,
            "sampling": {
                "temperature": temperature,
                "top_k": top_k,
                "top_p": top_p,
                "min_p": min_p,
                "banned": _options.indices(banned, "banned"),
            },
            "ignore_eos": ignore_eos,
            "start": _options.start(start),
            "recall": _options.constants(recall),
            "interventions": changes,
            "plugins": _options.plugins(plugins, plugin_path),
        }
        trace = Trace(self._native.trace(self._prompt(prompt), _options.document(options)))
        length = len(trace.ids) if muted else 0
        if muted and max(muted) >= length:
            raise _options.InputError(
                f"no position {max(muted)} in a path of {length} tokens",
                "mute_signals",
                f"pass positions from 0 to {length - 1}",
            )
        return trace

    def explain(
        self, prompt: Prompt, *, tokens: int = 1, alternative: Union[None, int, str] = None
    ) -> List[Explanation]:
        """Explain why a graph chooses each of the next ``tokens`` tokens and not another, as ``brillm explain``.

        >>> brillm.load().explain("Once upon a time, there was a little")[0].margin > 0
        True

        Args:
            prompt: A text, or the ids of its tokens.
            tokens: Number of tokens to choose, always the likeliest, and to explain.
            alternative: The token, or its text, that the chosen one is compared with; the next likeliest by default.

        Raises:
            InputError: A step chooses the alternative itself.
        """
        other = None if alternative is None else self._token(alternative)
        found = self._native.explain(self._prompt(prompt), _options.index(tokens, "tokens"), other)
        explanations = [Explanation(one, self) for one in json.loads(found)]
        for step, one in enumerate(explanations):
            if one.chosen == other:
                raise _options.InputError(
                    f"the alternative is the token that step {step} chooses",
                    "alternative",
                    "pass another token, or none for the next likeliest" if step == 0 else f"pass tokens={step}",
                )
        return explanations

    def session(
        self,
        prompt: Prompt,
        *,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 0.95,
        min_p: float = 0.0,
        banned: Sequence[int] = (),
        seed: int = 0,
        start: Any = "profile",
        recall: Union[None, bool, str] = None,
        charges: Union[None, bool, str] = None,
        explain: bool = False,
        plugins: Union[None, _options.Plugin, Sequence[_options.Plugin]] = None,
        plugin_path: Sequence[_options.Path] = (),
        state: Optional[bytes] = None,
    ) -> Session:
        """Begin a session at a prompt, to look at each step and to change it.

        Args:
            explain: Keep what :meth:`Session.contributions` needs.
            state: A saved session to continue; the prompt, which may be empty, is appended to it.

        The other arguments are those of :meth:`generate`.
        """
        options = {
            "seed": seed,
            "sampling": {
                "temperature": temperature,
                "top_k": top_k,
                "top_p": top_p,
                "min_p": min_p,
                "banned": _options.indices(banned, "banned"),
            },
            "start": _options.start(start),
            "recall": _options.constants(recall),
            "charges": _options.constants(charges),
            "explain": explain,
            "plugins": _options.plugins(plugins, plugin_path),
        }
        ids = [] if state is not None and isinstance(prompt, str) and not prompt else self._prompt(prompt)
        saved = None if state is None else _options.state(state)
        return Session(self, ids, self._native.session(ids, _options.document(options), saved))

    def restore(self, state: bytes, **options: Any) -> Session:
        """Continue a saved session; ``options`` are those of :meth:`session`."""
        return self.session([], state=_options.state(state), **options)

    def graph(self) -> Graph:
        """The graph of tokens, as arrays that are not copied."""
        return Graph(self._native.graph(), self)

    @property
    def learned(self) -> List[Dict[str, Any]]:
        """The records of the texts that a graph has learned since its training, in that order.

        A record has ``name``, ``sources`` (files), ``tokens``, ``weight``, ``new_nodes``, ``new_edges`` and ``training``:
        settings and figures of the training, or ``None`` for counts alone.
        """
        return json.loads(_native.records(self._native))

    def learn(
        self,
        texts: Union[_options.Text, Sequence[_options.Text]] = (),
        *,
        name: Optional[str] = None,
        ids: Optional[Sequence[int]] = None,
        weight: int = 1,
        passes: int = 1,
        rate: float = 2e-3,
        new_nodes: int = 0,
        replay: Union[None, _options.Text, Sequence[_options.Text]] = None,
        seed: int = 0,
        callback: Optional[_options.Callback] = None,
    ) -> "Model":
        """Teach a graph a text, in seconds, and return the new model; this one stays as it is. As ``brillm learn``.

        The counts of the text are added to the edges, and the nodes and edges that it touches are trained; everything
        else keeps its bytes. The new model has a record of the text in :attr:`learned`, which :meth:`forget` takes back.

        >>> model = brillm.load()
        >>> taught = model.learn("The quokka is a small marsupial. Quokkas live on islands.", name="quokka")
        >>> taught.learned[-1]["name"], model.learned
        ('quokka', [])
        >>> taught.save("taught.bril")

        Args:
            texts: Texts to learn: each a ``str``, which is the text itself, or a ``pathlib.Path`` of a file, a folder or
                a glob.
            name: Name of the record; by default that of the first path, or ``"text"``, numbered if there is one.
            ids: Tokens to learn after the texts, for models without text.
            weight: How often each transition of the text counts.
            passes: Passes of training over the text; 0 adds the counts alone.
            rate: Highest learning rate, at most 1.
            new_nodes: Add up to so many nodes for words that occur at least twice and are several tokens.
            replay: Texts that the model knows already, trained on in a tenth of the steps against forgetting; their
                counts are not added.
            seed: Seed of the order of batches.
            callback: Receives progress after each step: ``kind`` is ``step``, with ``step``, ``steps`` and ``loss``; and
                warnings before the first: ``warning``, with ``text``. It is called on another thread. Returning
                ``False`` ends learning with :class:`CancelledError`, an exception with that exception; there is no new
                model then.
        """
        options = {
            "name": name,
            "weight": weight,
            "passes": passes,
            "rate": rate,
            "new_nodes": new_nodes,
            "seed": seed,
        }
        return Model(
            _native.learn(
                self._native,
                _options.texts(texts),
                [] if ids is None else _options.indices(ids, "ids"),
                [] if replay is None else _options.texts(replay, "replay"),
                _options.document(options),
                _options.teller(callback),
            )
        )

    def forget(self, record: Union[int, str, Mapping[str, Any]]) -> "Model":
        """Take back a text that a graph has learned and return the new model; this one stays as it is.

        Counts and edges are then exactly those of a model that never learned the text, and a model that has forgotten
        all its texts has the bytes that it had before the first.

        >>> taught = brillm.load().learn("The quokka is a small marsupial.", name="quokka")
        >>> taught.forget("quokka").learned
        []

        Args:
            record: A record of :attr:`learned`, its name, or its number, from 1.
        """
        if isinstance(record, Mapping):
            record = _options.record_name(record)
        if not isinstance(record, str):
            record = str(_options.index(record, "record"))
        return Model(_native.forget(self._native, record))

    def save(self, path: _options.Path) -> None:
        """Write a graph to a ``.bril`` file, which :func:`brillm.load` and the program open. Equal models give equal bytes."""
        _native.save(self._native, _options.path(path))

    def weights(self) -> Dict[str, "numpy.ndarray"]:
        """The weights by name, as read-only views of the model's memory.

        Those of a transformer have the names and shapes of Hugging Face's files; a Llama in GGUF has its rows of
        queries and keys in that order too. NumPy has no bfloat16: such numbers are uint16,
        their upper halves. Rows of the block formats of GGUF are bytes, ``[rows, bytes]`` uint8; :meth:`weight_formats`
        names the formats. A block of int8 of a graph has its scales, one for each row, under its name with
        ``.row_scales`` appended.
        """
        views: Dict[str, "numpy.ndarray"] = {}
        for name, _, values, scales in self._native.weights():
            views[name] = numpy.asarray(values)
            if scales is not None:
                views[f"{name}.row_scales"] = numpy.asarray(scales)
        return views

    def weight_formats(self) -> Dict[str, str]:
        """The format of each block of :meth:`weights`: ``"f32"``, ``"f16"``, ``"bf16"``, ``"i8"``, ``"Q8_0"``, …"""
        return {name: form for name, form, _, _ in self._native.weights()}

    def __reduce__(self):
        # Opened again from the same path, in another process too.
        if self._about["in_memory"]:
            raise UnsupportedError(
                "a model that has learned or forgotten a text has no file to be opened from",
                self.name,
                "save it, and load the file",
            )
        return (load, (self._about["path"],))

    def __repr__(self) -> str:
        return f"<brillm.Model {self.name!r}: {self.kind}, {self.parameters} parameters, {self.vocabulary} tokens>"

    def _repr_html_(self) -> str:
        about = self.about()
        keys = ["kind", "profile", "parameters", "vocabulary", "width", "layers", "edges", "order", "context", "license"]
        rows = "".join(
            f"<tr><th style='text-align:left'>{key}</th><td>{html.escape(str(about[key]))}</td></tr>"
            for key in keys
            if about[key] is not None
        )
        return f"<table><caption>{html.escape(self.name)}</caption>{rows}</table>"


def load(path: Optional[_options.Path] = None, *, verify: bool = False) -> Model:
    """Open a model: a ``.bril`` file, a folder in Hugging Face's layout, or the built-in English model without a path.

    Args:
        verify: Check every byte now; otherwise the blocks of a large file are checked when they are first used.
    """
    name = None if path is None else _options.path(path)
    return Model(_native.Model(name, bool(verify)))
