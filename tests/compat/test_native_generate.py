"""`generate(engine="native")` gives the same rows from packed weights as the torch model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pellucid import native
from pellucid.errors import OptionError

from ..pairs import Pair, left_padded

pytestmark = pytest.mark.skipif(not native.is_built(), reason="a pure-Python build")

BATCH = left_padded([[3, 1, 4, 1, 5], [9, 2], [6, 5, 3]], pad=0)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 3, "top_k": 5}], ids=str)
@pytest.mark.parametrize("tied", [True, False])
def test_rows_are_those_of_the_torch_engine(pair: Callable[..., Pair], options: dict[str, Any], tied: bool) -> None:
    model, _ = pair(tie_word_embeddings=tied)
    ids, mask = BATCH
    call = {"max_new_tokens": 9, "eos_token_id": None, "pad_token_id": 0, **options}
    expected = model.generate(ids, mask, **call)
    assert torch.equal(model.generate(ids, mask, engine="native", **call), expected)


def test_packed_weights_are_kept_and_follow_the_models(pair: Callable[..., Pair]) -> None:
    model, _ = pair()
    ids, mask = BATCH
    call = {"max_new_tokens": 5, "pad_token_id": 0, "engine": "native"}
    first = model.generate(ids, mask, **call)
    kept = model.__dict__["_pellucid_native_engine"][1]
    assert torch.equal(model.generate(ids, mask, **call), first)
    assert model.__dict__["_pellucid_native_engine"][1] is kept
    with torch.no_grad():
        model.transformer.wte.weight.copy_(torch.randn_like(model.transformer.wte.weight))
    changed = model.generate(ids, mask, **call)
    assert not torch.equal(changed, first)
    assert torch.equal(changed, model.generate(ids, mask, **{**call, "engine": "torch"}))


def test_a_bfloat16_model_runs_in_bfloat16(pair: Callable[..., Pair]) -> None:
    model = pair()[0].to(torch.bfloat16)
    model.generate(BATCH[0], max_new_tokens=2, engine="native")
    assert model.__dict__["_pellucid_native_engine"][1].precision == "bfloat16"


def test_unsupported_options_are_refused(pair: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = pair()
    with pytest.raises(OptionError, match="engine is 'fast'"):
        model.generate(BATCH[0], engine="fast")
    with pytest.raises(OptionError, match=r"runs float32 and bfloat16.*torch\.float16"):
        pair()[0].half().generate(BATCH[0], engine="native")
    monkeypatch.setattr(native, "is_built", lambda: False)
    with pytest.raises(OptionError, match="not built"):
        model.generate(BATCH[0], engine="native")
