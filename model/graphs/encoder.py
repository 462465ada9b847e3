"""Paraformer's encoder as graphs of a few layers each, for streaming windows and for whole utterances alike.

It is the network of `parastream.model.encoder`, with its predictor's weights of rows at the end.
"""

from __future__ import annotations

import numpy as np
from parastream.model.config import EncoderConfig
from parastream.model.graphs.builder import Arithmetic, GraphBuilder
from parastream.model.graphs.sanm import SanmBuilder, Take


def memory_names(layer: int) -> tuple[str, str]:
    """Return the names of a layer's inputs for keys and for values of earlier windows."""
    return f"encoder_keys_{layer}", f"encoder_values_{layer}"


def encoder_graph(
    config: EncoderConfig, take: Take, layers: range, arithmetic: Arithmetic, *, kept: int
) -> SanmBuilder:
    """Build consecutive layers.

    The inputs are

    - `x`: rows (B T, input);
    - `heads`: the integers B, T, 3 H, d;
    - `mask`, (B, T, 1): 1 on real rows, 0 on padding;
    - `added`, (B, 1, 1, S + T): 0 for a key that takes part, else -inf;
    - `index`, (B,): which slot of the memories belongs to each utterance;
    - those that `memory_names` gives each layer, (slots, H, S, d): keys and values to look back at.

    The outputs are rows (B T, size), and keys and values (layers, B, 2 H, kept, d) for later windows to look back at.

    Args:
        config: Sizes of the encoder.
        take: See `Take`.
        layers: Which layers.
        arithmetic: Of the linear layers.
        kept: How many rows of a window, its first ones, later ones look back at.
    """
    graph = SanmBuilder(take, arithmetic)
    heads, size = config.attention_heads, config.size
    depth = size // heads
    x = graph.input("x", ["rows", size if layers.start else config.input_size])
    shape, mask = graph.input("heads", [4], np.int64), graph.input("mask", ["b", "t", 1])
    added, index = graph.input("added", ["b", 1, 1, "keys"]), graph.input("index", ["b"], np.int64)
    before = (config.kernel_size - 1) // 2 + config.shift
    fresh = []
    for layer in layers:
        name = f"encoder.layers.{layer}"
        projected = graph.dense(graph.norm(x, f"{name}.norm1"), f"{name}.self_attn.linear_q_k_v")
        cut = graph.node("Reshape", projected, shape)
        q, keys_values = graph.split(graph.node("Transpose", cut, perm=(0, 2, 1, 3)), [heads, 2 * heads], axis=1)
        fresh.append(graph.slice(keys_values, 0, kept, axis=2))
        both = [
            graph.remembered(graph.input(memory, ["slots", heads, "s", depth]), index, new, axis=2)
            for memory, new in zip(memory_names(layer), graph.split(keys_values, [heads, heads], axis=1), strict=True)
        ]
        attended = graph.attention(q, both[0], both[1], added, scale=depth**-0.5, width=size)

        values = graph.reshape(graph.slice(cut, 2 * heads, 3 * heads, axis=2), 0, 0, size)
        taps = take(f"{name}.self_attn.fsmn_block.weight")[:, :, 0].copy()
        taps[:, before] += 1  # the rows themselves are added to what the filter makes of them
        filtered = graph.filter(graph.node("Mul", values, mask), taps, before, config.kernel_size - 1 - before)
        residual = graph.reshape(filtered, -1, size)
        if layer:  # the first layer's input has another width
            residual = graph.node("Add", x, residual)
        x = graph.dense(attended, f"{name}.self_attn.linear_out", residual=residual)

        hidden = graph.dense(graph.norm(x, f"{name}.norm2"), f"{name}.feed_forward.w_1")
        x = graph.dense(hidden, f"{name}.feed_forward.w_2", residual=x, after_relu=True)
    graph.output(x)
    graph.output(graph.stacked(fresh))
    return graph


def predictor_graph(take: Take, size: int) -> SanmBuilder:
    """Build the encoder's last norm and the predictor's convolution, always in float32.

    The inputs are `x`, rows (B T, size); `frame`, the integers B, T, size; and `mask`, (B, T, 1). The outputs are the
    encoded rows (B, T, size), zero where the mask is, and their weights (B T, 1), from 0 to 1.
    """
    graph = SanmBuilder(take)
    x, frame = graph.input("x", ["rows", size]), graph.input("frame", [3], np.int64)
    normed = graph.node("Reshape", graph.norm(x, "encoder.after_norm"), frame)
    encoded = graph.node("Mul", normed, graph.input("mask", ["b", "t", 1]))
    graph.output(encoded)
    padded = graph.node("Pad", encoded, graph.integers(0, 1, 0, 0, 1, 0))
    neighbours = [graph.slice(padded, start, stop, axis=1) for start, stop in enumerate((-2, -1, 1 << 40))]
    seen = graph.reshape(graph.node("Concat", *neighbours, axis=2), -1, 3 * size)
    taps = take("predictor.cif_conv1d.weight").reshape(size, 3 * size)  # was (outputs, 3, inputs)
    hidden = graph.node("Relu", graph.linear(seen, taps, take("predictor.cif_conv1d.bias")))
    graph.output(graph.node("Sigmoid", graph.dense(hidden, "predictor.cif_output")))
    return graph


def integration_graph(size: int) -> GraphBuilder:
    """Build the sums of rows that tokens are made of: `shares` (B, U, T) times `rows` (B, T, size)."""
    graph = GraphBuilder()
    shares, rows = graph.input("shares", ["b", "u", "t"]), graph.input("rows", ["b", "t", size])
    graph.output(graph.node("MatMul", shares, rows))
    return graph
