"""Graphs that onnxruntime computes: operators and linear layers in float32 and in 8 bits, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from parastream.model import processor
from parastream.model.errors import ModelConfigError
from parastream.model.graphs.builder import Arithmetic, GraphBuilder, QuantizedWeight
from parastream.model.graphs.onnx_format import ValueInfo, write_model
from parastream.model.graphs.program import Program, array_of, value_of

Float32 = NDArray[np.float32]
ROWS, INPUTS, OUTPUTS = 9, 96, 40
BOTH: list[Arithmetic] = ["float32", "int8"]


def values(*shape: int, seed: int = 0) -> Float32:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


WEIGHT, BIAS, X = values(OUTPUTS, INPUTS, seed=1), values(OUTPUTS, seed=2), values(ROWS, INPUTS, seed=3)


def linear(arithmetic: Arithmetic, **options: Any) -> Program:
    graph = GraphBuilder(arithmetic)
    x = graph.input("x", ["rows", INPUTS])
    graph.output(graph.linear(x, WEIGHT, BIAS, **options))
    return Program(graph)


def result(run: Program, **inputs: NDArray[Any]) -> NDArray[Any]:
    return array_of(run(inputs)[0])


def in_bytes(x: Float32, *, after_relu: bool = False) -> Float32:
    """What a linear layer in 8 bits gives, with exact sums."""
    x, steps = (np.maximum(x, 0), 255) if after_relu else (x, 127)
    scale = np.maximum(np.abs(x).max(1, keepdims=True) * np.float32(1 / steps), np.float32(1e-20))
    weight = QuantizedWeight.of(WEIGHT)
    sums = np.rint(x / scale).astype(np.int64) @ weight.values.astype(np.int64)
    y: Float32 = sums.astype(np.float32) * weight.scales * scale + BIAS
    return y


def test_a_linear_layer_in_float32() -> None:
    np.testing.assert_allclose(result(linear("float32"), x=X), X @ WEIGHT.T + BIAS, rtol=2e-6, atol=1e-5)


def test_a_linear_layer_in_bytes_is_that_of_integers() -> None:
    found = result(linear("int8"), x=X)
    np.testing.assert_allclose(found, in_bytes(X), rtol=1e-6, atol=1e-6)
    exact = X @ WEIGHT.T + BIAS
    assert np.square(found - exact).mean() < 0.02**2 * np.square(exact).mean()


def test_rows_after_relu_get_a_bit_more() -> None:
    x = X.copy()
    x[-1] = -np.abs(x[-1])  # nothing is left of this row
    positive = np.maximum(x, 0)
    exact = positive @ WEIGHT.T + BIAS
    finer = result(linear("int8", after_relu=True), x=x)
    np.testing.assert_allclose(finer, in_bytes(x, after_relu=True), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(finer[-1], BIAS)
    assert np.square(finer - exact).mean() < np.square(result(linear("int8"), x=positive) - exact).mean()
    np.testing.assert_allclose(result(linear("float32", after_relu=True), x=x), exact, rtol=2e-6, atol=1e-5)


@pytest.mark.parametrize("largest", [3.0, 40.0])
def test_rows_that_come_from_gelu_get_almost_a_bit_more(largest: float) -> None:
    x = np.maximum(largest / np.abs(X).max() * X, -0.16)
    x[:, ::2] = 0  # as most are about, and so bytes of their own
    exact = x @ WEIGHT.T + BIAS
    plain, finer = result(linear("int8"), x=x), result(linear("int8", after_gelu=True), x=x)
    assert np.square(finer - exact).mean() < 0.8 * np.square(plain - exact).mean()
    np.testing.assert_allclose(result(linear("float32", after_gelu=True), x=x), exact, atol=1e-4)
    np.testing.assert_allclose(result(linear("int8", after_gelu=True), x=np.zeros_like(x))[0], BIAS, atol=1e-5)


@pytest.mark.parametrize("arithmetic", BOTH)
def test_residual_rows_are_added(arithmetic: Arithmetic) -> None:
    graph = GraphBuilder(arithmetic)
    x, residual = graph.input("x", ["rows", INPUTS]), graph.input("residual", ["rows", OUTPUTS])
    graph.output(graph.linear(x, WEIGHT, residual=residual))
    other = values(ROWS, OUTPUTS, seed=4)
    found = result(Program(graph), x=X, residual=other)
    np.testing.assert_allclose(found, result(linear(arithmetic), x=X) - BIAS + other, atol=1e-5)


@pytest.mark.parametrize("arithmetic", BOTH)
def test_a_row_has_the_same_bits_alone_and_among_others(arithmetic: Arithmetic) -> None:
    run = linear(arithmetic)
    together = result(run, x=X)
    for row in range(ROWS):
        np.testing.assert_array_equal(result(run, x=X[row : row + 1])[0], together[row])


def test_rows_and_outputs_of_zeros_stay_zero() -> None:
    assert QuantizedWeight.of(np.zeros((2, 3), np.float32)).values.tolist() == [[0, 0]] * 3
    np.testing.assert_array_equal(result(linear("int8"), x=np.zeros_like(X)), np.tile(BIAS, (ROWS, 1)))


def test_sums_do_not_saturate_on_any_processor(cpu: Callable[[str, str], None]) -> None:
    # All products are as large as they can be: pairs of them do not fit into 16 bits.
    graph = GraphBuilder("int8")
    graph.output(graph.linear(graph.input("x", ["rows", INPUTS]), np.ones_like(WEIGHT), after_relu=True))
    runs = [Program(graph)]
    cpu("x86_64", "avx2 avx512f")
    runs.append(Program(graph))
    for run in runs:
        np.testing.assert_allclose(result(run, x=np.ones_like(X)), INPUTS, rtol=1e-6)


@pytest.mark.parametrize(
    ("machine", "flags", "slower"),
    [
        ("x86_64", "avx2 avx512f", True),
        ("x86_64", "avx512_vnni", False),
        ("x86_64", "avx_vnni", False),
        ("arm64", "", False),
    ],
)
def test_slower_instructions_are_taken_only_where_the_others_saturate(
    machine: str, flags: str, slower: bool, cpu: Callable[[str, str], None]
) -> None:
    here, expected = processor.sums_bytes_exactly(), result(linear("int8"), x=X)
    cpu(machine, flags)
    run = linear("int8")
    options = run._session.get_session_options()
    if slower:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"
    else:
        with pytest.raises(RuntimeError, match="x64quantprecision"):
            options.get_session_config_entry("session.x64quantprecision")
    if slower or here:  # else this processor saturates, whatever it is said to be
        np.testing.assert_array_equal(result(run, x=X), expected)


def test_layer_norm_and_attention() -> None:
    graph = GraphBuilder()
    x = graph.input("x", ["rows", INPUTS])
    graph.output(graph.layer_norm(x, np.full(INPUTS, 2), np.full(INPUTS, 3), 1e-12))
    centred = X - X.mean(1, keepdims=True)
    expected = 2 * centred / np.sqrt(np.square(centred).mean(1, keepdims=True)) + 3
    np.testing.assert_allclose(result(Program(graph), x=X), expected, atol=1e-5)

    graph = GraphBuilder()
    q, k, v = (graph.input(name, ["b", 2, name, 8]) for name in "qkv")
    added = graph.input("added", ["b", 1, 1, "k"])
    for given in (added, None):
        graph.output(graph.attention(q, k, v, given, scale=0.5, width=16))
    arrays = {"q": values(3, 2, 4, 8, seed=5), "k": values(3, 2, 6, 8, seed=6), "v": values(3, 2, 6, 8, seed=7)}
    mask = np.where(np.arange(6) < np.array([6, 4, 1])[:, None], 0, -np.inf).astype(np.float32)[:, None, None]
    found = [array_of(value) for value in Program(graph)({**arrays, "added": mask})]
    for attended, more in zip(found, (mask, np.zeros_like(mask)), strict=True):
        weights = np.exp(0.5 * arrays["q"] @ arrays["k"].swapaxes(2, 3) + more)
        weights /= weights.sum(-1, keepdims=True)
        expected = (weights @ arrays["v"]).transpose(0, 2, 1, 3).reshape(12, 16)
        np.testing.assert_allclose(attended, expected, atol=1e-5)


def test_outputs_feed_other_runs_and_outlive_them() -> None:
    graph = GraphBuilder()
    x = graph.input("x", ["rows", 2, 3])
    first, second = graph.split(x, [1, 2], axis=2)
    every_second = graph.slice(x, 0, 3, axis=2, step=2)
    graph.output(graph.reshape(graph.slice(second, -1, 1 << 40, axis=2), 0, -1))
    graph.output(graph.node("Transpose", first, perm=(0, 2, 1)))
    graph.output(graph.node("LeakyRelu", x, alpha=0.25))
    graph.output(graph.node("Shape", x, start=-2), np.int64)
    graph.output(every_second)
    run, given = Program(graph), values(2, 2, 3, seed=8)
    outputs = run({"x": given})
    again = [array_of(value) for value in run({"x": outputs[2]})]
    found = [array_of(value) for value in outputs]
    del outputs, run
    np.testing.assert_array_equal(found[0], given[:, :, 2])
    np.testing.assert_array_equal(found[1], given[:, :, :1].swapaxes(1, 2))
    leaky = np.where(given < 0, given / 4, given)
    np.testing.assert_array_equal(found[2], leaky)
    assert found[3].tolist() == [2, 3]
    np.testing.assert_array_equal(found[4], given[:, :, ::2])
    np.testing.assert_array_equal(again[0], leaky[:, :, 2])


def test_values_show_arrays_without_copying() -> None:
    graph = GraphBuilder()
    graph.output(graph.node("Neg", graph.input("x", [2])))
    run, array = Program(graph), np.array([1, 2], np.float32)
    value = value_of(array)
    array[:] = 3, 4
    assert array_of(run({"x": value})[0]).tolist() == [-3, -4]


def test_the_weights_of_a_graph_are_not_kept_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = list[bool]()

    class Written(bytes):
        def __del__(self) -> None:
            ended.append(True)

    graph = GraphBuilder()
    graph.output(graph.linear(graph.input("x", ["rows", INPUTS]), WEIGHT))
    written = [Written(graph.written())]
    monkeypatch.setattr(graph, "written", written.pop)
    run = Program(graph)
    assert ended
    np.testing.assert_allclose(result(run, x=X), X @ WEIGHT.T, rtol=2e-6, atol=1e-5)


def test_programs_share_the_memory_that_they_compute_in() -> None:
    graph = GraphBuilder()
    wide = graph.node("Expand", graph.input("x", ["rows", 1]), graph.integers(1, 4096))
    graph.output(graph.node("ReduceMax", graph.node("Neg", wide), graph.integers(-1)))
    rows = np.zeros((2048, 1), np.float32)  # 32 MB between input and output
    programs = [Program(graph) for _ in range(12)]
    before = psutil.Process().memory_info().rss
    for run in programs:
        run({"x": rows})
    assert psutil.Process().memory_info().rss - before < 6 * 32 << 20


def test_small_constants_are_written_once() -> None:
    graph = GraphBuilder()
    assert graph.constant([1, 2]) == graph.constant([1, 2]) != graph.integers(1, 2)
    assert graph.constant(np.zeros(100)) != graph.constant(np.zeros(100))


def test_a_graph_that_cannot_be_computed() -> None:
    graph = GraphBuilder()
    graph.output(graph.node("NoSuchOperator", graph.input("x", [1])))
    with pytest.raises(ModelConfigError, match=r"onnxruntime .* cannot compute the network: .*NoSuchOperator"):
        Program(graph)
    with pytest.raises(KeyError):
        write_model([], {}, [ValueInfo("x", np.complex64)], [], {})
