"""Blocks of GGML's formats with the weights that the Python package gguf 0.19 reads from them."""

import json

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize

random = np.random.default_rng(16)
cases = {}
for name in ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]:
    kind = Type[name]
    weights = random.normal(size=(1, 256 if name.endswith("K") else 64)).astype(np.float32)
    try:
        blocks = quantize(weights, kind)
    except NotImplementedError:
        # Not written by the package: random bytes, with scales near 0.01.
        size = {"Q4_K": 144, "Q5_K": 176, "Q6_K": 210}[name]
        blocks = random.integers(0, 256, size=(1, size), dtype=np.uint8)
        scale = np.frombuffer(np.float16(0.0137).tobytes(), dtype=np.uint8)
        minimum = np.frombuffer(np.float16(-0.0071).tobytes(), dtype=np.uint8)
        if name == "Q6_K":
            blocks[0, 208:210] = scale
        else:
            blocks[0, 0:2], blocks[0, 2:4] = scale, minimum
    read = dequantize(blocks, kind)
    cases[name] = {
        "written": weights[0].tolist(),
        "bytes": blocks.tobytes().hex(),
        "read": [float(np.float32(value)) for value in read[0]],
    }
json.dump(cases, open("blocks.json", "w"))
