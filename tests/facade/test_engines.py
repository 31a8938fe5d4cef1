"""Choice of the engine: the requested one, or the best available one, or one clear error."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

import pellucid
from pellucid import Generation, engine_choice, native
from pellucid.errors import CacheFullError, MissingExtraError, NoEngineError, OptionError

needs_native = pytest.mark.skipif(not native.is_built(), reason="a pure-Python build")
PROMPT = "Once upon a time there was a"


def text_of(lm: pellucid.LanguageModel) -> str | None:
    generation = lm.generate(PROMPT, max_new_tokens=12)
    assert isinstance(generation, Generation)
    return generation.text


@needs_native
@pytest.mark.parametrize(
    ("options", "engine"),
    [
        ({}, "NativeEngine"),
        ({"engine": "native"}, "NativeEngine"),
        ({"precision": "int8"}, "NativeEngine"),
        ({"precision": "int4", "engine": "native"}, "NativeEngine"),
        ({"precision": "bfloat16"}, "NativeEngine"),
        ({"engine": "torch"}, "ReferenceEngine"),
        ({"precision": "float16"}, "ReferenceEngine"),
        ({"precision": "bfloat16", "engine": "torch"}, "ReferenceEngine"),
    ],
    ids=str,
)
def test_the_engine_is_the_requested_one_or_the_best(options: dict[str, str], engine: str) -> None:
    lm = pellucid.load("demo", **options)  # type: ignore[arg-type]
    assert type(lm.engine).__name__ == engine
    prediction, expected = lm.predict(PROMPT, top=1), pellucid.load("demo", engine="torch").predict(PROMPT, top=1)
    assert prediction[0].id == expected[0].id
    assert prediction[0].probability == pytest.approx(expected[0].probability, rel=0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8", "engine": "torch"}, "precision int8 is for the native engine"),
        ({"precision": "float16", "engine": "native"}, "precision float16 is for the torch engine"),
        ({"precision": "int3"}, "precision is 'int3'; it must be one of float32, bfloat16, float16, int8, int4"),
        ({"engine": "jax"}, "engine is 'jax'; it must be one of auto, native, torch"),
        ({"device": "cuda", "precision": "int8"}, "device is 'cuda', but the native engine"),
        ({"threads": 0}, "threads is 0"),
    ],
    ids=str,
)
def test_options_that_no_engine_supports_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        pellucid.load("demo", **options)  # type: ignore[arg-type]


@needs_native
def test_threads_reach_the_native_engine() -> None:
    assert pellucid.load("demo", threads=3).engine.threads == 3  # type: ignore[attr-defined]


@needs_native
def test_the_size_of_the_native_engines_cache_can_be_chosen() -> None:
    lm = pellucid.load("demo", capacity=64)
    assert lm.engine.capacity == 64
    lm.generate(PROMPT, max_new_tokens=20)
    with pytest.raises(CacheFullError):
        lm.generate(PROMPT, max_new_tokens=100)
    with pytest.raises(OptionError, match="capacity is for the native engine"):
        pellucid.load("demo", engine="torch", capacity=64)


@needs_native
def test_loading_on_the_native_engine_imports_no_torch() -> None:
    code = "import sys, pellucid; pellucid.load('demo').generate('The fox', max_new_tokens=2); print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "torch" not in output.split()


def test_without_the_extension_the_reference_engine_runs_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "is_built", lambda: False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        lms = [pellucid.load("demo") for _ in range(2)]
    assert [type(lm.engine).__name__ for lm in lms] == ["ReferenceEngine"] * 2
    assert [str(warning.message) for warning in caught] == [
        "the native engine is not built, so the slower reference engine runs; with PELLUCID_NATIVE=on in the "
        "environment, pip install . builds it if there is a C++ compiler, or reports why it cannot"
    ]
    for options in ({"engine": "native"}, {"precision": "int4"}):
        with pytest.raises(OptionError, match="the native engine is not built: with PELLUCID_NATIVE=on"):
            pellucid.load("demo", **options)  # type: ignore[arg-type]


def test_without_either_engine_one_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "is_built", lambda: False)
    monkeypatch.setattr(engine_choice, "is_installed", lambda extra: False)
    with pytest.raises(NoEngineError, match='pip install "pellucid\\[torch\\]", or with PELLUCID_NATIVE=on'):
        pellucid.load("demo")


@needs_native
def test_without_torch_everything_but_the_torch_model_works_on_the_native_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = pellucid.load("demo")
    monkeypatch.setattr("pellucid.extras.is_installed", lambda extra: False)
    assert text_of(pellucid.load("demo")) == text_of(lm)
    with pytest.raises(MissingExtraError, match="pellucid\\[torch\\]"):
        _ = lm.model


def test_the_torch_model_is_available_with_either_engine() -> None:
    for engine in ("auto", "torch"):
        lm = pellucid.load("demo", engine=engine)  # type: ignore[arg-type]
        assert lm.model is lm.model
        slot = lm.engine.open()
        with torch.no_grad():
            expected = lm.model(torch.tensor([[1, 2]])).logits[0, -1].numpy()
        logits = lm.engine.step([slot], [[1, 2]]).logits[0]
        assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


def test_half_precision_can_be_asked_for() -> None:
    half = pellucid.load("demo", precision="bfloat16", engine="torch")
    assert half.model.transformer.wte.weight.dtype == torch.bfloat16
    assert half.predict("Once upon a", top=1)[0].id == pellucid.load("demo").predict("Once upon a", top=1)[0].id
