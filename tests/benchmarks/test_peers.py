"""The figures that the comparison with other programs derives from its measurements, and the audio that it feeds."""

from __future__ import annotations

import numpy as np

from benchmarks.peers import results, worker


def test_medians_over_the_rounds_and_how_many_times_ours_they_are() -> None:
    rounds: list[results.Costs] = [
        {"parastream": {1: 100.0, 16: 40.0}, "peer": {1: 90.0, 16: 80.0}},
        {"parastream": {1: 110.0, 16: 50.0}, "peer": {1: 55.0, 16: 90.0}},
        {"parastream": {1: 500.0, 16: 45.0}, "peer": {1: 50.0, 16: 300.0}},
    ]
    found = results.summary(rounds)
    assert found["rounds"] == rounds
    assert found["ms_per_session_window"] == {"parastream": {1: 110.0, 16: 45.0}, "peer": {1: 55.0, 16: 90.0}}
    assert found["sessions_in_real_time"] == {"parastream": 13, "peer": 6}
    assert found["ratio_to_parastream"] == {"parastream": {1: 1.0, 16: 1.0}, "peer": {1: 0.5, 16: 2.0}}


def test_agreement_counts_a_shifted_stream_only_where_it_differs() -> None:
    expected = [["a", "b", "c", "d"], ["e", "f", "g", "h"]]
    assert results.agreement(expected, expected) == 1.0
    assert results.agreement([["b", "c", "d"], ["e", "f", "x", "h"]], expected) == 0.75


def test_table_has_a_line_for_each_system() -> None:
    summary = results.summary([{"parastream": {1: 100.0, 16: 40.0}, "peer": {1: 90.0, 16: 80.0}}])
    result = {
        "hardware": "a machine",
        "blas": "a BLAS",
        "others_cpu_cores": 0.125,
        **summary,
        "tokens": {"parastream": 200, "peer": 190},
        "token_agreement": {"parastream": 1.0, "peer": 0.95},
    }
    machine, others, _, head, ours, peer = results.table(result).splitlines()
    assert machine == "a machine; BLAS of parastream: a BLAS"
    assert others == "other programs took 0.12 CPUs meanwhile"
    assert head.split() == ["1", "session", "ratio", "16", "sessions", "ratio", "real", "time", "tokens", "agreement"]
    assert ours.split() == ["parastream", "100.0", "1.00", "40.0", "1.00", "15", "200", "1.000"]
    assert peer.split() == ["peer", "90.0", "0.90", "80.0", "2.00", "7", "190", "0.950"]


def test_streams_begin_with_a_window_of_silence_and_go_round_the_recording() -> None:
    recording = np.arange(1, 25_001, dtype=np.float32)
    heard = [worker.excerpt(recording, 4, begin) for begin in range(0, 4 * worker.HOP, worker.HOP)]
    assert not heard[0].any()
    place = np.arange(worker.HOP, 4 * worker.HOP) + 4 * len(recording) // worker.STREAMS
    assert np.concatenate(heard[1:]).tolist() == recording[place % len(recording)].tolist()
    # A stream that starts inside the silence has the rest of it.
    assert np.count_nonzero(worker.excerpt(recording, 4, 480)) == 480
