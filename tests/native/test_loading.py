"""Loading an engine: choice of kernels and threads, weights that fit their precision, and peak memory."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pellucid import native
from pellucid.errors import CheckpointError, OptionError
from pellucid.native import cores
from pellucid.native.cores import usable_cores
from pellucid.native.engine import NativeEngine, NativePrecision

from ..pairs import Pair
from ..slots import opened
from .conftest import Stored


def test_the_best_kernels_are_chosen_and_the_environment_forces_others(
    pair: Callable[..., Pair], stored: Stored, instruction_set: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = stored(pair()[0])
    assert NativeEngine.load(checkpoint).instruction_set == instruction_set
    monkeypatch.delenv("PELLUCID_ISA")
    assert NativeEngine.load(checkpoint).instruction_set == native.instruction_sets()[0]


def test_kernels_there_are_none_of_or_that_cannot_run_here_are_one_clear_error(
    pair: Callable[..., Pair], stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = stored(pair()[0])
    monkeypatch.setenv("PELLUCID_ISA", "avx1024")
    with pytest.raises(OptionError, match="PELLUCID_ISA is 'avx1024'.*this processor can run .*portable"):
        NativeEngine.load(checkpoint)
    if "avx512_vnni" not in native.cpu_features():
        monkeypatch.setenv("PELLUCID_ISA", "avx512_vnni")
        with pytest.raises(OptionError, match="PELLUCID_ISA is 'avx512_vnni'.*can run .*portable"):
            NativeEngine.load(checkpoint)


def test_threads_are_as_many_as_asked_for_or_as_the_cores_there_are(pair: Callable[..., Pair], stored: Stored) -> None:
    checkpoint = stored(pair()[0])
    assert NativeEngine.load(checkpoint, threads=3).threads == 3
    assert NativeEngine.load(checkpoint).threads == usable_cores()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity_limits_the_cores() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from pellucid.native.cores import usable_cores; print(usable_cores())"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "1"


@pytest.mark.parametrize(("contents", "expected"), [("150000 100000", 1), ("50000 100000", 1), ("max 100000", 8)])
def test_a_cgroups_quota_limits_the_cores(
    contents: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(contents + "\n")
    monkeypatch.setattr(cores, "_CGROUP_2", tmp_path / "cpu.max")
    monkeypatch.setattr(cores, "_TOPOLOGY", tmp_path)
    monkeypatch.setattr(cores, "_affinity", lambda: set(range(8)))
    assert usable_cores() == expected


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_weights_that_a_precision_cannot_hold_are_refused(
    pair: Callable[..., Pair], stored: Stored, precision: NativePrecision, value: float
) -> None:
    model, _ = pair()
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[3, 5] = value
    with pytest.raises(CheckpointError, match=f"h.1.mlp.c_fc.weight cannot be packed as {precision}"):
        NativeEngine.load(stored(model), precision=precision)


def _next_logits(engine: NativeEngine) -> bytes:
    return engine.step([opened(engine, [1, 2])], [[3]]).logits.tobytes()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
def test_a_forked_child_can_use_its_parents_engine(pair: Callable[..., Pair], stored: Stored) -> None:
    engine = NativeEngine.load(stored(pair()[0]), threads=3)
    expected = _next_logits(engine)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, b"same" if _next_logits(engine) == expected else b"other")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 5) == b"same"


def test_loading_holds_little_more_than_the_packed_weights() -> None:
    """Peak memory of a process that loads, minus that of one that only imports, relative to the size of the weights."""
    measure = """
import resource, sys
from pellucid.checkpoint import open_checkpoint
from pellucid.native.engine import NativeEngine
checkpoint = open_checkpoint("demo")
checkpoint.take("ln_f.weight")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
engine = NativeEngine.load(checkpoint, precision=sys.argv[1], threads=1)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((peak - before) * 1024 / engine.weight_bytes)
"""
    for precision in ("float32", "int8"):
        command = [sys.executable, "-c", measure, precision]
        ratio = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        # The fixed part (a chunk of the embedding, and code) has a larger share in a model of 13M than in larger ones.
        assert ratio < (1.2 if precision == "float32" else 1.5)


def test_the_bundled_checkpoint_needs_no_torch_for_the_native_engine() -> None:
    code = (
        "import sys\nfrom pellucid.checkpoint import open_checkpoint\nfrom pellucid.native.engine import NativeEngine\n"
        "engine = NativeEngine.load(open_checkpoint('demo'))\nengine.step([engine.open()], [[1, 2]])\n"
        "print('torch' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "False"
