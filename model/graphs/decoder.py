"""Paraformer's decoder as graphs of a few layers each, for streaming windows and for whole utterances alike.

It is the network of `parastream.model.decoder`. The two forms differ in what their filters see: all tokens, or those of
the windows before, too. So rows of zeros go in front and behind in the one form, and what is remembered goes in front
in the other.
"""

from __future__ import annotations

import numpy as np
from parastream.model.config import DecoderConfig
from parastream.model.graphs.builder import Arithmetic
from parastream.model.graphs.sanm import SanmBuilder, Take


def history_name(layer: int) -> str:
    """Return the name of a layer's input for what its filter saw last."""
    return f"decoder_history_{layer}"


def memory_names(layer: int) -> tuple[str, str]:
    """Return the names of a layer's inputs for keys and for values of earlier rows."""
    return f"decoder_keys_{layer}", f"decoder_values_{layer}"


def decoder_graph(
    config: DecoderConfig, take: Take, layers: range, arithmetic: Arithmetic, *, kept: int
) -> SanmBuilder:
    """Build consecutive layers with cross-attention.

    The inputs are

    - `x`: tokens (B U, size);
    - `encoded`: rows (B T, size);
    - `tokens`: the integers B, U, size;
    - `queries`: the integers B, U, H, d;
    - `keys`: the integers B, T, 2 H, d;
    - `mask`, (B, U, 1): 1 on real tokens, 0 on padding;
    - `added`, (B, 1, 1, S + T): 0 for a row that takes part, else -inf;
    - `behind`, (B, n, size): zeros that filters see behind the tokens;
    - `recent`, (B, r, 1): places of the filters' inputs that the next window remembers;
    - `index`, (B,): which slot of the memories belongs to each utterance;
    - those that `history_name` gives each layer, (slots, m, size): earlier inputs of its filter, or zeros;
    - those that `memory_names` gives each layer, (slots, H, S, d): keys and values of earlier rows.

    The outputs are tokens (B U, size); the filters' inputs at `recent`, (layers, B, r, size); and the newest keys and
    values, (layers, B, 2 H, kept, d), fewer where there are not so many.

    Args:
        config: Sizes of the decoder.
        take: See `Take`.
        layers: Which layers.
        arithmetic: Of the linear layers.
        kept: How many rows the next window looks back at.
    """
    graph = SanmBuilder(take, arithmetic)
    heads, size = config.attention_heads, config.size
    depth = size // heads
    x, encoded = graph.input("x", ["tokens_", size]), graph.input("encoded", ["rows", size])
    frame, queries, keys = (
        graph.input(name, [length], np.int64) for name, length in (("tokens", 3), ("queries", 4), ("keys", 4))
    )
    mask, added = graph.input("mask", ["b", "u", 1]), graph.input("added", ["b", 1, 1, "keys_"])
    behind, recent = graph.input("behind", ["b", "n", size]), graph.input("recent", ["b", "r", 1], np.int64)
    index = graph.input("index", ["b"], np.int64)
    histories, memories = [], []
    for layer in layers:
        name = f"decoder.layers.{layer}"
        inner = _filter_input(graph, x, name, frame, mask)
        history = graph.input(history_name(layer), ["slots", "m", size])
        seen = graph.node("Concat", graph.remembered(history, index, inner, axis=1), behind, axis=1)
        histories.append(graph.node("GatherND", seen, recent, batch_dims=1))
        x = _filtered(graph, x, name, inner, seen)

        q = graph.heads(graph.dense(graph.norm(x, f"{name}.norm3"), f"{name}.src_attn.linear_q"), queries)
        keys_values = graph.heads(graph.dense(encoded, f"{name}.src_attn.linear_k_v"), keys)
        both = [
            graph.remembered(graph.input(memory, ["slots", heads, "s", depth]), index, new, axis=2)
            for memory, new in zip(memory_names(layer), graph.split(keys_values, [heads, heads], axis=1), strict=True)
        ]
        if kept:
            newest = [graph.slice(part, -kept, 1 << 40, axis=2) for part in both]
            memories.append(graph.node("Concat", *newest, axis=1))
        attended = graph.attention(q, both[0], both[1], added, scale=depth**-0.5, width=size)
        x = graph.dense(attended, f"{name}.src_attn.linear_out", residual=x)
    graph.output(x)
    graph.output(graph.stacked(histories))
    if memories:
        graph.output(graph.stacked(memories))
    return graph


def filter_graph(config: DecoderConfig, take: Take, arithmetic: Arithmetic) -> SanmBuilder:
    """Build the layers without cross-attention, which come behind the others.

    The inputs are `x`, `tokens`, `mask`, `behind`, `recent`, `index` and each layer's history, as in `decoder_graph`,
    and `place`, (B, n, 1): which of all that their filters could see they do see. The outputs are tokens (B U, size),
    and what of that is `recent`, (layers, B, r, size).
    """
    graph = SanmBuilder(take, arithmetic)
    size = config.size
    x, frame = graph.input("x", ["tokens_", size]), graph.input("tokens", [3], np.int64)
    mask, behind = graph.input("mask", ["b", "u", 1]), graph.input("behind", ["b", "n", size])
    recent, place = (graph.input(name, ["b", name, 1], np.int64) for name in ("recent", "place"))
    index = graph.input("index", ["b"], np.int64)
    histories = []
    for layer in range(config.att_layer_num, config.num_blocks):
        name = f"decoder.fsmn_layers.{layer - config.att_layer_num}"
        inner = _filter_input(graph, x, name, frame, mask)
        history = graph.input(history_name(layer), ["slots", "m", size])
        could = graph.node("Concat", graph.remembered(history, index, inner, axis=1), behind, axis=1)
        seen = graph.node("GatherND", could, place, batch_dims=1)
        histories.append(graph.node("GatherND", seen, recent, batch_dims=1))
        x = _filtered(graph, x, name, inner, seen)
    graph.output(x)
    graph.output(graph.stacked(histories))
    return graph


def output_graph(config: DecoderConfig, take: Take, arithmetic: Arithmetic) -> SanmBuilder:
    """Build the end.

    The input is `x`: tokens (N, size); the outputs are logarithms of the vocabulary's probabilities (N, V), and the
    hidden states (N, size) of which they are made.
    """
    graph = SanmBuilder(take, arithmetic)
    x = feed_forward(graph, graph.input("x", ["tokens", config.size]), "decoder.last")
    hidden = graph.norm(x, "decoder.after_norm")
    graph.output(graph.node("LogSoftmax", graph.dense(hidden, "decoder.output_layer"), axis=-1))
    graph.output(hidden)
    return graph


def feed_forward(graph: SanmBuilder, x: str, name: str) -> str:
    """Add the feed-forward part of this name to tokens x (N, size)."""
    hidden = graph.dense(graph.norm(x, f"{name}.norm1"), f"{name}.feed_forward.w_1")
    hidden = graph.norm(graph.node("Relu", hidden), f"{name}.feed_forward.norm")
    return graph.dense(hidden, f"{name}.feed_forward.w_2", bias=False)


def _filter_input(graph: SanmBuilder, x: str, name: str, frame: str, mask: str) -> str:
    """Return what a layer's filter sees of its tokens (B, U, size), zero where the mask is."""
    inner = graph.node("Reshape", graph.norm(feed_forward(graph, x, name), f"{name}.norm2"), frame)
    return graph.node("Mul", inner, mask)


def _filtered(graph: SanmBuilder, x: str, name: str, inner: str, seen: str) -> str:
    """Return x + inner + the filter's output, as tokens (B U, size)."""
    taps = graph.take(f"{name}.self_attn.fsmn_block.weight")[:, :, 0]
    both = graph.node("Add", inner, graph.filter(seen, taps))
    return graph.node("Add", x, graph.reshape(both, -1, taps.shape[0]))
