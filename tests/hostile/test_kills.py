"""Commands that write files, ended by a signal at any moment: the target is whole or as it was, the source untouched,
and nothing else is left behind."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..checkpoint.conftest import HubServer, hub  # noqa: F401  # a fixture
from .budget import SCALE, examples
from .commands import Ended, contents, run_command
from .tally import BROKEN_OFF, DONE, Tally

pytestmark = [pytest.mark.hostile, pytest.mark.xdist_group("hostile kills")]

_signals = st.sampled_from([signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
# The end of a command is when it writes.
_fractions = st.floats(0, 1) | st.floats(0.6, 1.1)

# Each command by its arguments, of a model's folder and of the target.
_WRITERS: dict[str, Callable[[str, str], list[str]]] = {
    "quantize": lambda model, target: ["quantize", model, target],
    "quantize --overwrite": lambda model, target: ["quantize", model, target, "--overwrite"],
    "generate --record": lambda model, target: ["generate", "fox", "-m", model, "-n", "3", "--record", target],
    "trace --html": lambda model, target: ["trace", "fox", "-m", model, "--html", target],
}


def _judge(counted: Tally, ended: Ended, sent: signal.Signals) -> None:
    """A command that was stopped ends by its signal, or with the status that a shell reports of one that was."""
    as_asked = ended.status in (-sent, 128 + sent) and ended.kind != "traceback"
    counted.count(BROKEN_OFF if as_asked else ended.kind)
    assert as_asked or ended.kind == DONE, f"{ended.kind} after {sent.name}: {ended.stderr}"


# Those that take seconds wait for a longer run.
_LONGER = pytest.mark.skipif(SCALE == 1, reason="takes long: `make hostile` runs it")
_SHORT = ("quantize --overwrite", "generate --record")


@pytest.mark.parametrize("writer", [pytest.param(name, marks=[] if name in _SHORT else [_LONGER]) for name in _WRITERS])
def test_a_target_is_whole_or_as_it_was(
    writer: str, model: Path, tally: Callable[[str], Tally], tmp_path: Path
) -> None:
    counted = tally("kills of commands that write")
    source, room = tmp_path / "source", tmp_path / "room"
    shutil.copytree(model, source)
    room.mkdir()
    target = room / "target"
    arguments = _WRITERS[writer](str(source), str(target))
    if writer == "quantize --overwrite":
        assert run_command("quantize", str(source), str(target), "--precision", "int4").status == 0
    elif writer != "quantize":
        target.write_text("older")
    older, untouched = contents(target), contents(source)
    kept = tmp_path / "kept"
    if older is not None:
        shutil.copytree(room, kept)
    whole = run_command(*arguments)
    assert whole.status == 0, whole.stderr
    newer = contents(target)

    def begin_anew() -> None:
        shutil.rmtree(room)
        shutil.copytree(kept, room) if older is not None else room.mkdir()

    @examples(2)
    @given(sent=_signals, fraction=_fractions)
    def try_kill(sent: signal.Signals, fraction: float) -> None:
        begin_anew()
        _judge(counted, run_command(*arguments, stop=(sent, fraction * whole.seconds)), sent)
        # A page or a record tells the time, so that two are not the same: one that is whole is no older one.
        assert contents(target) in (older, newer), f"{writer} left {os.listdir(room)}"
        assert contents(source) == untouched
        if sent != signal.SIGKILL:
            assert set(os.listdir(room)) <= {"target"}, os.listdir(room)
        elif set(os.listdir(room)) - {"target"}:
            assert run_command(*arguments).status == 0  # the next write takes away what was left
            assert os.listdir(room) == ["target"]

    try_kill()


@_LONGER
def test_a_download_is_whole_or_goes_on(
    hub: HubServer,  # noqa: F811
    model: Path,
    tally: Callable[[str], Tally],
    tmp_path: Path,
) -> None:
    counted = tally("kills of downloads")
    hub.models["someone/small"] = model
    cache = tmp_path / "cache"
    environment = {"HF_HOME": str(cache), "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
    whole = run_command("pull", "someone/small", environment=environment)
    assert whole.status == 0, whole.stderr
    files = {path.name for path in model.iterdir()}

    @examples(2)
    @given(sent=_signals, fraction=_fractions)
    def try_kill(sent: signal.Signals, fraction: float) -> None:
        shutil.rmtree(cache)
        stop = (sent, fraction * whole.seconds)
        _judge(counted, run_command("pull", "someone/small", environment=environment, stop=stop), sent)
        for path in cache.rglob("snapshots/*/*"):
            assert path.name in files and path.read_bytes() == (model / path.name).read_bytes(), path
        again = run_command("pull", "someone/small", environment=environment)
        assert again.status == 0, again.stderr
        pulled = {path.name: path.read_bytes() for path in cache.rglob("snapshots/*/*")}
        assert pulled["model.safetensors"] == (model / "model.safetensors").read_bytes()

    try_kill()
