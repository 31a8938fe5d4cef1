"""Random calls of the extension, with arguments that no caller of Pellucid's gives: refused or done, and nothing
written where nothing may be. `make hostile` makes them of a build with AddressSanitizer and UBSan too."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid import native

from .budget import examples
from .tally import Tally
from .worker import Worker, WorkerOf, judge

pytestmark = [
    pytest.mark.hostile,
    pytest.mark.xdist_group("hostile extension"),
    pytest.mark.skipif(not native.is_built(), reason="a pure-Python build"),
]

# Where `make hostile` puts the sanitizers' build.
_SANITIZED = os.environ.get("PELLUCID_SANITIZED", "")

_sizes = st.sampled_from([0, 1, 2, 15, 16, 17, 63, 64, 65, 330]) | st.integers(-1, 400)
_any_size = _sizes | st.sampled_from([2**31, 2**32, 2**60, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 1.5, None, "1"])
_precisions = st.sampled_from(["float32", "bfloat16", "int8", "int4"])
_any_precision = _precisions | st.sampled_from(["", "FLOAT32", "int2", "\x00", None])
_index = st.integers(0, 7)
_any_slot = _index | st.sampled_from([None, "0", 1.5, 2**64])
_arrays = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["<f4"] * 6 + ["<f8", "<f2", "<u2", "u1", "i1", "<i4", "<i8", ">f4", "?", "<c8"]),
        "shape": st.lists(st.sampled_from([0, 1, 2, 16, 17, 32, 64, 330]), max_size=3),
        "layout": st.sampled_from(
            ["C"] * 4 + ["transposed", "reversed", "every second", "broadcast", "misaligned", "read-only"]
        ),
        "fill": st.sampled_from(["zeros", "ones", "bits", "nan", "infinity", "huge"]),
    }
)
_any_array = _arrays | st.sampled_from([None, 0, "x", []])
_output = st.just("fits") | st.none() | _arrays
_tokens = st.lists(
    st.lists(st.integers(0, 329) | st.sampled_from([-1, 330, 2**31 - 1, 2**31, -(2**31)]), max_size=20), max_size=4
)
_few_tokens = st.lists(st.lists(st.integers(0, 329), min_size=1, max_size=70), min_size=1, max_size=3)
_config = st.dictionaries(
    st.sampled_from(["vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner"]), _any_size, max_size=2
)


def _call(name: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.tuples(st.just(name), st.fixed_dictionaries(arguments))


_step = _call(
    "step",
    engine=_index,
    slots=st.lists(_index, min_size=1, max_size=3) | st.lists(_any_slot, max_size=4),
    tokens=_few_tokens | _tokens,
    all_positions=st.booleans(),
    logits=_output,
    hidden=_output,
)
_calls = st.one_of(
    _call(
        "engine",
        precision=_precisions | st.just("int2"),
        config=st.just({}) | _config,
        capacity=st.sampled_from([1, 16, 128, 1000]) | _any_size,
        spoiled=st.sampled_from(["", "", "missing", "short", "empty", "type", "none", "strided", "cleared"]),
    ),
    _call("runtime", isa=st.sampled_from(["", "portable", "avx2", "x"]), threads=st.integers(-1, 8)),
    _call("open", engine=_index),
    _call("open", engine=_index),
    _call("fork", engine=_index, slot=_any_slot),
    _call("drop", engine=_index, slot=_any_slot),
    _call("length", engine=_index, slot=_any_slot),
    _call("truncate", engine=_index, slot=_any_slot, length=_any_size),
    _call("forget engine", engine=_index),
    _call("forget slot", slot=_index),
    _step,
    _step,
    _step,
    _call("survey", logits=_any_array),
    _call("largest", values=_any_array, k=_any_size, maxima=st.just("fits") | _any_array),
    _call("matrix_bytes", precision=_any_precision, n_out=_any_size, n_in=_any_size),
    _call("pack", precision=_any_precision, weights=_any_array, packed=st.just("fits") | _any_array),
    _call("read_bandwidth", data=_any_array, rounds=st.sampled_from([0, 1, -1, 2**31 - 1, 2**31]) | st.none()),
)


@pytest.fixture
def worker(worker_of: WorkerOf) -> Worker:
    return worker_of("extension")


@pytest.fixture(scope="module")
def sanitized_worker() -> Iterator[Worker]:
    """The same calls of the sanitizers' build. Python itself keeps memory to its end, so leaks are not looked for."""
    if not _SANITIZED:
        pytest.skip("there is no build with sanitizers; `make hostile` makes one")
    libraries = [
        subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so")
    ]
    environment = {
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=4096",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }
    with Worker("tests.hostile.calls.extension", address_space=0, environment=environment) as started:
        yield started


def _try_programs(worker: Worker, model: Path, counted: Tally, count: int) -> None:
    @examples(count)
    @given(program=st.lists(_calls, min_size=1, max_size=25))
    def try_program(program: list[tuple[str, dict[str, Any]]]) -> None:
        outcome = worker.call("run", model=str(model), program=program)
        if outcome.failed:
            judge(counted, outcome)
        for kind, times in outcome.value.items():
            counted.count(kind, times)

    try_program()


def test_random_calls_are_done_or_refused(model: Path, worker: Worker, tally: Callable[[str], Tally]) -> None:
    _try_programs(worker, model, tally("calls of the extension"), 60)


def test_random_calls_leave_sanitizers_silent(
    model: Path, sanitized_worker: Worker, tally: Callable[[str], Tally]
) -> None:
    _try_programs(sanitized_worker, model, tally("calls of the extension, sanitized"), 300)
