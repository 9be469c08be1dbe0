"""Images and sounds that a model generates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Optional

import numpy

from . import _native, _options


@dataclass(frozen=True, eq=False)
class Image:
    """A grey image that a model generated."""

    #: Brightness; 255 is white. ``[height, width]`` uint8
    pixels: "numpy.ndarray"
    #: The tokens of its codes.
    ids: List[int]
    _model: "_native.Model" = field(repr=False)

    def save(self, path: _options.Path) -> None:
        """Write it to a ``.png`` or ``.pgm`` file."""
        _native.save_media(self._model, "image", self.ids, _options.path(path))


@dataclass(frozen=True, eq=False)
class Sound:
    """A sound of one channel that a model generated."""

    #: Samples from -1 to 1. ``[n]`` float32
    samples: "numpy.ndarray"
    #: Samples per second.
    rate: int
    #: The tokens of its codes.
    ids: List[int]
    #: ``stop`` where the model ended it, ``length`` where it was cut at the number of codes.
    finish: Optional[str]
    _model: "_native.Model" = field(repr=False)

    def save(self, path: _options.Path) -> None:
        """Write it to a ``.wav`` file."""
        _native.save_media(self._model, "audio", self.ids, _options.path(path))


def image(model: "_native.Model", ids: List[int]) -> Image:
    """The image of the codes among tokens."""
    return Image(numpy.asarray(_native.decode_image(model, ids)), ids, model)


def sound(model: "_native.Model", ids: List[int], finish: Optional[str]) -> Sound:
    """The sound of the codes among tokens."""
    samples, rate = _native.decode_audio(model, ids)
    return Sound(numpy.asarray(samples), rate, ids, finish, model)
