"""A trace is read back from its file unchanged. A damaged or inconsistent file is one clear error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from pellucid import Generation, LanguageModel
from pellucid.errors import ActivationNameError, PellucidError, TraceError
from pellucid.lens.trace import Trace

pytestmark = pytest.mark.needs("torch")

TEXT = "Once upon a time there was a little dog"


@pytest.mark.parametrize("gradients", [False, True])
def test_a_trace_comes_back_as_it_was(demo: LanguageModel, tmp_path: Path, gradients: bool) -> None:
    trace = demo.trace(TEXT, gradients=gradients)
    trace.save(tmp_path / "trace.safetensors")
    found = Trace.load(tmp_path / "trace.safetensors", model=demo)
    for field in ("ids", "tokens", "names", "start", "config", "model_name", "precision", "value", "model"):
        assert getattr(found, field) == getattr(trace, field)
    for name in trace:
        assert np.array_equal(found[name], trace[name])
        assert np.array_equal(found.tensor(name).numpy(), trace[name])
        if gradients:
            assert np.array_equal(found.gradient(name), trace.gradient(name))
    assert repr(found) == repr(trace)
    assert found.logit_lens().target_ids.tolist() == trace.logit_lens().target_ids.tolist()


def test_any_reader_of_safetensors_reads_a_trace(demo: LanguageModel, tmp_path: Path) -> None:
    trace = demo.trace(TEXT, ["attn.pattern", "logits"])
    trace.save(tmp_path / "trace.safetensors")
    theirs = load_file(tmp_path / "trace.safetensors")
    assert sorted(theirs) == sorted(trace)
    assert all(np.array_equal(theirs[name], trace[name]) for name in trace)


def test_a_step_of_a_generation_and_all_of_it_can_be_saved(demo: LanguageModel, tmp_path: Path) -> None:
    found = demo.generate(TEXT, max_new_tokens=4, trace=True)
    assert isinstance(found, Generation)
    for number, trace in enumerate([found.trace[0], found.trace[2], found.trace.joined()]):
        trace.save(tmp_path / f"{number}.safetensors")
        loaded = Trace.load(tmp_path / f"{number}.safetensors")
        assert loaded.ids == trace.ids and loaded.start == trace.start
        assert all(np.array_equal(loaded[name], trace[name]) for name in trace)


def test_only_requested_activations_are_read(demo: LanguageModel, tmp_path: Path) -> None:
    demo.trace(TEXT, gradients=True).save(tmp_path / "t.safetensors")
    trace = Trace.load(tmp_path / "t.safetensors", names=["resid_post", "blocks.0.attn.hook_q"])
    assert len(trace) == 9 and trace.gradient("blocks.0.attn.q").any()
    with pytest.raises(ActivationNameError, match="resid_pots"):
        Trace.load(tmp_path / "t.safetensors", names="resid_pots")


def test_methods_that_need_the_model_say_so(demo: LanguageModel, tiny: LanguageModel, tmp_path: Path) -> None:
    demo.trace(TEXT, "resid_post").save(tmp_path / "t.safetensors")
    trace = Trace.load(tmp_path / "t.safetensors")
    with pytest.raises(TraceError, match=r"Trace.load\(path, model="):
        _ = trace.model
    assert Trace.load(tmp_path / "t.safetensors", model=demo.model).model is demo.model
    with pytest.raises(TraceError, match="another configuration"):
        Trace.load(tmp_path / "t.safetensors", model=tiny)


def test_a_trace_that_cannot_be_written_leaves_the_previous_file(demo: LanguageModel, tmp_path: Path) -> None:
    trace = demo.trace(TEXT, "embed")
    with pytest.raises(PellucidError, match="cannot be written"):
        trace.save(tmp_path / "missing" / "t.safetensors")
    path = tmp_path / "t.safetensors"
    trace.save(path)
    before = path.read_bytes()

    class Broken(Trace):
        def __getitem__(self, name: str) -> Any:
            raise KeyboardInterrupt

    broken = Broken({"embed": trace["embed"]}, trace.of, ids=trace.ids)
    with pytest.raises(KeyboardInterrupt):
        broken.save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.fixture
def saved(tiny: LanguageModel, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    tiny.trace([1, 2, 3], ["resid_post", "logits"], gradients=True).save(path)
    return path


def lying(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Rewrite the file of a trace with other content: a valid safetensors file that is inconsistent."""
    tensors: dict[str, Any] = load_file(path)
    size = int.from_bytes(path.read_bytes()[:8], "little")
    about = json.loads(json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]["pellucid_trace"])
    change(about, tensors)
    save_file(tensors, path, metadata={"pellucid_trace": json.dumps(about)} if about else {"format": "np"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda about, tensors: about.clear(), 'its metadata has no "pellucid_trace"'),
        (lambda about, tensors: about.update(version=2), "its version is 2; this reader supports version 1"),
        (lambda about, tensors: about.update(ids="abc"), "its ids is 'abc'"),
        (lambda about, tensors: about.update(ids=[1, 2]), "it has 2 ids and 3 tokens"),
        (lambda about, tensors: about.update(ids=[1, 2, True]), "its ids is 'True'"),
        (lambda about, tensors: about.update(ids=[1, 2, 10**6]), "it has id 1000000"),
        (lambda about, tensors: about.update(tokens=[1, 2, 3]), "its tokens is '1'"),
        (lambda about, tensors: about.update(start=10**6), "do not fit in its model's"),
        (lambda about, tensors: about.update(start=-1), "do not fit in its model's"),
        (lambda about, tensors: about.pop("config"), "its config is 'None'"),
        (lambda about, tensors: about["config"].update(n_head=7), "n_embd .* is not divisible by n_head"),
        (
            lambda about, tensors: about["config"].update(n_layer=1),
            "blocks.1.resid_post is not an activation",
        ),
        (lambda about, tensors: about.update(value="high"), "its value is 'high'"),
        (lambda about, tensors: tensors.update(extra=np.zeros(1, np.float32)), "tensor extra is not an activation"),
        (lambda about, tensors: tensors.update(logits=tensors["logits"][0]), "tensor logits has the shape"),
        (
            lambda about, tensors: tensors.update({"blocks.0.resid_post": np.zeros((1, 3, 9), np.float32)}),
            "tensor blocks.0.resid_post has the shape",
        ),
        (lambda about, tensors: tensors.update(logits=tensors["logits"].astype(np.int32)), "logits is int32"),
        (lambda about, tensors: tensors.pop("gradient/logits"), "it has gradients, but none for logits"),
    ],
)
def test_an_inconsistent_file_is_an_error(saved: Path, change: Callable[[Any, Any], None], said: str) -> None:
    Trace.load(saved)
    lying(saved, change)
    with pytest.raises(TraceError, match=said) as caught:
        Trace.load(saved)
    assert str(saved) in str(caught.value)


def test_a_checkpoint_is_not_a_trace(tmp_path: Path) -> None:
    save_file({"wte.weight": np.zeros((3, 4), np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(TraceError, match="is not a valid trace"):
        Trace.load(tmp_path / "model.safetensors")
    with pytest.raises(TraceError, match="cannot be read: No such file"):
        Trace.load(tmp_path / "missing.safetensors")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_one_clear_error_or_harmless(saved: Path, data: st.DataObject) -> None:
    whole = saved.read_bytes()
    damaged = bytearray(whole)
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(whole) - 1)) :]
    else:
        header = 8 + int.from_bytes(whole[:8], "little")
        for _ in range(data.draw(st.integers(1, 4))):
            damaged[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    path = saved.with_name("damaged.safetensors")
    path.write_bytes(bytes(damaged))
    try:
        trace = Trace.load(path)
    except TraceError as error:
        assert str(path) in str(error)
    else:
        assert len(damaged) == len(whole) and len(trace) > 0
