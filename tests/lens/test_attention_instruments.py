"""Attention patterns, norms and head scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid import LanguageModel
from pellucid.errors import OptionError, TraceError
from pellucid.lens.instruments.head_scores import expected_keys, repeated_tokens

from .recorded import Case
from .test_logit_instruments import twin

TEXT = "The dog saw the cat and the dog ran"


def test_patterns_and_norms_equal_transformers(demo: LanguageModel) -> None:
    trace = demo.trace(TEXT)
    theirs = twin(demo)
    theirs.set_attn_implementation("eager")
    with torch.no_grad():
        out = theirs(torch.tensor([trace.ids]), output_attentions=True, output_hidden_states=True)
    attentions = torch.cat(out.attentions).numpy()  # [layer, head, query, key]
    whole = trace.attention()
    np.testing.assert_allclose(whole.patterns, attentions, atol=1e-5)
    some = trace.attention(layer=[6, 2], head=3)
    assert (some.layers, some.heads) == ((6, 2), (3,))
    np.testing.assert_allclose(some.patterns, attentions[[6, 2]][:, [3]], atol=1e-5)
    np.testing.assert_allclose(some.of(2, 3), attentions[2, 3], atol=1e-5)

    norms = trace.residual_norms()
    before_blocks = torch.cat(out.hidden_states[:-1]).norm(dim=-1).numpy()  # [layer, position]
    np.testing.assert_allclose(norms.stream[::2][:-1], before_blocks, rtol=1e-4)
    assert norms.names[:3] == ("blocks.0.resid_pre", "blocks.0.resid_mid", "blocks.0.resid_post")
    assert norms.stream.shape == (17, len(trace.ids))
    np.testing.assert_allclose(norms.mlp[3], np.linalg.norm(trace["blocks.3.mlp.out"][0], axis=-1), rtol=1e-5)


@pytest.mark.parametrize("layer", ["L4H2", 1.0, [0, "1"], {"layer": 1}, 8, -1])
def test_an_invalid_layer_is_an_option_error(demo: LanguageModel, layer: Any) -> None:
    trace = demo.trace([1, 2], "attn.pattern")
    with pytest.raises(OptionError, match=r"layer is .*0 to 7"):
        trace.attention(layer)
    assert trace.attention(np.int64(3)).layers == (3,)  # type: ignore[arg-type]


def test_head_norms_equal_those_of_transformer_lens() -> None:
    case = Case.of("tiny")
    norms = case.lm.trace(case.clean, "attn.z").head_norms().norms
    for layer in range(2):
        result = case[f"activation/blocks.{layer}.attn.hook_result"][0]  # [position, head, n_embd]
        np.testing.assert_allclose(norms[layer], np.linalg.norm(result, axis=-1).T, rtol=1e-4)


def test_a_head_with_the_ideal_pattern_scores_one(tiny: LanguageModel) -> None:
    ids = [5, 9, 30, 5, 9, 30, 5]

    def look(offset: int):  # type: ignore[no-untyped-def]
        def replace(pattern: torch.Tensor, _name: str) -> torch.Tensor:
            pattern[:, 1] = torch.eye(pattern.size(-1)).roll(-offset, dims=1).tril()
            return pattern

        return replace

    for offset, method in ((1, "previous_token_scores"), (3, "duplicate_token_scores"), (2, "induction_scores")):
        with tiny.hooks({"blocks.1.attn.pattern": look(offset)}):
            scores = getattr(tiny.trace(ids, "attn.pattern"), method)()
        # With three repetitions, a late position has several earlier occurrences, and this head attends to one of them.
        assert scores.scores[1, 1] == pytest.approx(1)
        assert (scores.scores >= 0).all() and (scores.scores <= 1 + 1e-6).all()
        best = scores.ranked(1)[0]
        assert (str(best), best.layer, best.head) == ("L1H1", 1, 1)
        assert scores.above(0.999) == (best,)


@given(ids=st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_target_positions_match_their_definitions(ids: list[int]) -> None:
    for query in range(len(ids)):
        for key in range(len(ids)):
            earlier = [place for place in range(query) if ids[place] == ids[query]]
            assert expected_keys("previous_token", ids)[query, key] == (key == query - 1)
            assert expected_keys("duplicate_token", ids)[query, key] == (key in earlier)
            followed = {place + 1 for place in earlier} - {query}
            assert expected_keys("induction", ids)[query, key] == (key in followed)


def test_random_tokens_repeat_and_are_the_same_for_a_seed() -> None:
    rows = repeated_tokens(range(50), 20, 3, 4, np.random.default_rng(7))
    assert rows.shape == (4, 60)
    assert (rows[:, :20] == rows[:, 20:40]).all() and (rows[:, :20] == rows[:, 40:]).all()
    assert all(len(set(row[:20])) == 20 for row in rows.tolist())
    assert (rows == repeated_tokens(range(50), 20, 3, 4, np.random.default_rng(7))).all()
    assert len(set(repeated_tokens([3, 4], 5, 2, 1, np.random.default_rng(0))[0])) <= 2


def test_scores_on_repeated_tokens_are_the_mean_over_the_second_repetition(tiny: LanguageModel) -> None:
    scores = tiny.induction_scores(seq_len=10, rows=3, seed=5)
    texts = repeated_tokens(range(67), 10, 2, 3, np.random.default_rng(5))
    stripes = []
    for text in texts.tolist():
        patterns = tiny.trace(text, "attn.pattern").attention().patterns
        stripes.append(np.mean([patterns[:, :, query, query - 9] for query in range(10, 20)], axis=0))
    np.testing.assert_allclose(scores.scores, np.mean(stripes, axis=0), rtol=1e-4)
    assert scores.counted == 30 and scores.kind == "induction"
    assert tiny.previous_token_scores(seq_len=10, rows=1).kind == "previous_token"


def test_scores_without_a_repetition_are_refused(tiny: LanguageModel) -> None:
    with pytest.raises(OptionError, match="twice"):
        tiny.trace([1, 2, 3], "attn.pattern").induction_scores()
    with pytest.raises(OptionError, match="single token"):
        tiny.trace([1], "attn.pattern").previous_token_scores()
    with pytest.raises(OptionError, match="repeats 1"):
        tiny.induction_scores(repeats=1)


def test_a_step_of_a_decode_refers_to_the_whole_trace(demo: LanguageModel) -> None:
    found = demo.generate("Once upon a time, once upon", max_new_tokens=3, trace=["attn.pattern"]).trace
    with pytest.raises(TraceError, match="joined"):
        found[1].attention()
    with pytest.raises(TraceError, match="joined"):
        found[1].previous_token_scores()
    whole = found.joined()
    expected = demo.trace(whole.ids, "attn.pattern").induction_scores()
    np.testing.assert_allclose(whole.induction_scores().scores, expected.scores, atol=1e-5)
