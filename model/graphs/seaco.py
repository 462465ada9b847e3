"""SeACo as graphs: the network of `parastream.model.seaco`. Utterances are computed one by one."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from parastream.model.config import ATTENTION_FILTER_LAYER, DecoderConfig, SeacoConfig
from parastream.model.graphs.builder import Arithmetic
from parastream.model.graphs.decoder import feed_forward
from parastream.model.graphs.lstm import LSTMLayer
from parastream.model.graphs.program import Program, array_of, value_of
from parastream.model.graphs.sanm import Float32, SanmBuilder, Take
from parastream.model.hotword_terms import MOST_ATTENDED, Terms, in_groups, most_attended


class SeacoStage:
    """Bias encoder and bias decoder."""

    def __init__(self, config: SeacoConfig, take: Take, arithmetic: Arithmetic) -> None:
        """Build the graphs; `arithmetic` is that of the bias decoder's linear layers."""
        self._config = config
        self._embed = take("seaco.embed")
        self._encoder = [LSTMLayer(take, "seaco.encoder", config.size, config.size, f"l{layer}") for layer in range(2)]
        decoder = config.decoder
        self._layers = [Program(_layer_graph(decoder, take, layer, arithmetic)) for layer in range(decoder.num_blocks)]
        self._output = Program(_output_graph(config, take, arithmetic))

    def encode(self, terms: Terms) -> Generator[None, None, Float32]:
        """Return a vector for each term, and behind them that for none of them: (terms + 1, size)."""
        found = np.zeros((len(terms) + 1, self._config.size), np.float32)
        for group, ids, lengths in in_groups(terms):
            states = np.ascontiguousarray(self._embed[ids].swapaxes(0, 1))
            for layer in self._encoder:
                states, last = layer.sequences(states, lengths)
                yield
            found[group] = last
        return found

    def hear(
        self, plain: Float32, tokens: Float32, hidden: Float32, encoded: Float32
    ) -> Generator[None, None, Float32]:
        """Let one whole utterance have its hotwords; yield after each layer.

        Args:
            plain: Log-probabilities of the vocabulary, as the decoder has them, (1, U, V).
            tokens: From CIF, (1, U, size).
            hidden: The decoder's hidden states (1, U, size).
            encoded: What `encode` made of its terms.

        Returns:
            Log-probabilities (1, U, V), those of the bias decoder where that has heard something.
        """
        if len(encoded) > MOST_ATTENDED:
            _, mass = yield from self._decode(hidden, encoded, ATTENTION_FILTER_LAYER + 1)
            encoded = encoded[most_attended(mass[0])]
        x, _ = yield from self._decode(np.concatenate([tokens, hidden]), encoded, len(self._layers))
        biased, best = self._output({"x": x})
        silent = array_of(best) == self._config.no_bias
        return np.where(silent[None], plain, array_of(biased)[None])

    def _decode(self, tokens: Float32, encoded: Float32, layers: int) -> Generator[None, None, tuple[Float32, Float32]]:
        """Run the first layers over B forms of an utterance's tokens (B, U, size).

        Returns:
            Tokens (B U, size), and how much these attend in the last of the layers to each vector, (B, n).
        """
        batch, count, size = tokens.shape
        heads = self._config.decoder.attention_heads
        given = {
            "memory": encoded,
            "tokens": np.array([batch, count, size]),
            "queries": np.array([batch, count, heads, size // heads]),
            "keys": np.array([1, len(encoded), 2 * heads, size // heads]),
        }
        values = {name: value_of(array) for name, array in given.items()}
        x, mass = value_of(tokens.reshape(-1, size)), value_of(np.zeros((batch, 0), np.float32))
        for layer in self._layers[:layers]:
            x, mass = layer({"x": x, **values})
            yield
        return array_of(x), array_of(mass)


def _layer_graph(config: DecoderConfig, take: Take, layer: int, arithmetic: Arithmetic) -> SanmBuilder:
    """Build a layer of the bias decoder.

    The inputs are `x`, tokens (B U, size); `memory`, vectors (n, size); `tokens`, the integers B, U, size; `queries`,
    the integers B, U, H, d; and `keys`, the integers 1, n, 2 H, d. The outputs are tokens (B U, size), and the
    attention that each vector gets in all, (B, n).
    """
    graph = SanmBuilder(take, arithmetic)
    size, heads, name = config.size, config.attention_heads, f"seaco.decoder.layers.{layer}"
    x, frame = graph.input("x", ["tokens_", size]), graph.input("tokens", [3], np.int64)
    inner = graph.node("Reshape", graph.norm(feed_forward(graph, x, name), f"{name}.norm2"), frame)
    taps = take(f"{name}.self_attn.fsmn_block.weight")[:, :, 0]
    before = (config.kernel_size - 1) // 2
    filtered = graph.node("Add", inner, graph.filter(inner, taps, before, config.kernel_size - 1 - before))
    x = graph.node("Add", x, graph.reshape(filtered, -1, size))
    memory = graph.input("memory", ["n", size])
    queries, keys = (graph.input(shape, [4], np.int64) for shape in ("queries", "keys"))
    q = graph.heads(graph.dense(graph.norm(x, f"{name}.norm3"), f"{name}.src_attn.linear_q"), queries)
    keys_values = graph.heads(graph.dense(memory, f"{name}.src_attn.linear_k_v"), keys)
    k, v = graph.split(keys_values, [heads, heads], axis=1)
    attention = graph.node("Softmax", graph.scores(q, k, scale=(size // heads) ** -0.5), axis=-1)
    attended = graph.reshape(graph.node("Transpose", graph.node("MatMul", attention, v), perm=(0, 2, 1, 3)), -1, size)
    graph.output(graph.dense(attended, f"{name}.src_attn.linear_out", residual=x))
    graph.output(graph.node("ReduceSum", attention, graph.integers(1, 2), keepdims=0))
    return graph


def _output_graph(config: SeacoConfig, take: Take, arithmetic: Arithmetic) -> SanmBuilder:
    """Build the end: tokens `x` in two forms (2 U, size) to log-probabilities (U, V), and the best token, (U, 1)."""
    graph = SanmBuilder(take, arithmetic)
    x = feed_forward(graph, graph.input("x", ["tokens", config.size]), "seaco.decoder.last")
    forms = graph.node("Reshape", graph.norm(x, "seaco.decoder.after_norm"), graph.integers(2, -1, config.size))
    both = graph.node("ReduceSum", forms, graph.integers(0), keepdims=0)
    logits = graph.dense(both, "seaco.output_layer")
    graph.output(graph.node("LogSoftmax", logits, axis=-1))
    graph.output(graph.node("ArgMax", logits, axis=-1, keepdims=1), np.int64)
    return graph
