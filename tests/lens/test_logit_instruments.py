"""The logit lens and direct logit attribution: values of every layer, and parts that add up to the logit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pellucid import LanguageModel
from pellucid.errors import ActivationNameError, OptionError, TraceError
from pellucid.lens.instruments.logit_attribution import predicted_logit_attributions
from pellucid.lens.instruments.logit_lens import logit_lens
from pellucid.lens.trace import Trace

TEXT = "Once upon a time there was a little girl who"


def twin(lm: LanguageModel) -> transformers.GPT2LMHeadModel:
    """The same weights in Transformers."""
    fields = {name: value for name, value in lm.config.to_dict().items() if name != "model_type"}
    with torch.device("meta"):
        theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**fields))
    theirs.load_state_dict(lm.model.state_dict(), assign=True)
    theirs.tie_weights()
    return theirs.eval()


def test_each_row_of_the_lens_is_a_layer_of_transformers_through_norm_and_head(demo: LanguageModel) -> None:
    trace = demo.trace(TEXT)
    lens = trace.logit_lens(top=7)
    theirs = twin(demo)
    with torch.no_grad():
        hidden = theirs(torch.tensor([trace.ids]), output_hidden_states=True).hidden_states
        # The last hidden state is already normalised.
        logits = [theirs.lm_head(theirs.transformer.ln_f(state))[0] for state in hidden[:-1]]
        logits.append(theirs.lm_head(hidden[-1])[0])
    assert lens.layers == ("embed", *map(str, range(8)))
    for row, expected in enumerate(logits):
        probabilities = expected.softmax(-1)
        values = expected.gather(-1, torch.from_numpy(lens.top_ids[row])).numpy()
        np.testing.assert_allclose(lens.top_logits[row], values, atol=1e-3)
        np.testing.assert_allclose(values, expected.topk(7).values.numpy(), atol=1e-3)
        found = probabilities.gather(-1, torch.from_numpy(lens.top_ids[row])).numpy()
        np.testing.assert_allclose(lens.top_probabilities[row], found, atol=1e-4)
        entropy = torch.distributions.Categorical(probs=probabilities).entropy().numpy()
        np.testing.assert_allclose(lens.entropy[row], entropy, rtol=1e-3, atol=1e-3)


def test_the_last_row_of_the_lens_is_the_prediction(demo: LanguageModel) -> None:
    lens = demo.trace(TEXT).logit_lens()
    prediction = demo.predict(TEXT, top=5)
    assert lens.top_ids[-1, -1].tolist() == [row.id for row in prediction]
    assert [lens.pieces[int(id)] for id in lens.top_ids[-1, -1]] == [row.token for row in prediction]
    assert (lens.target_ids == lens.top_ids[-1, :, 0]).all()
    assert (lens.target_ranks[-1] == 0).all()


def test_the_lens_follows_the_requested_token(demo: LanguageModel) -> None:
    trace = demo.trace(TEXT)
    followed = trace.logit_lens(" girl")
    girl = demo.token_id(" girl")
    assert (followed.target_ids == girl).all()
    predicted = demo.predict(TEXT, top=50257)
    row = next(row for row in predicted if row.id == girl)
    assert followed.target_ranks[-1, -1] == row.rank
    assert followed.target_probabilities[-1, -1] == pytest.approx(row.probability, rel=1e-3)
    following = trace.logit_lens([*trace.ids[1:], girl])  # the next token of each position
    assert following.target_ids.tolist() == [*trace.ids[1:], girl]
    assert following.target_ranks[:, -1].tolist() == followed.target_ranks[:, -1].tolist()


def test_the_lens_of_a_long_text_starts_with_that_of_its_prefix(tiny: LanguageModel) -> None:
    ids = [1 + i % 60 for i in range(48)]
    whole, short = tiny.trace(ids).logit_lens(), tiny.trace(ids[:5]).logit_lens()
    np.testing.assert_allclose(whole.top_logits[:, :5], short.top_logits, atol=1e-4)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_parts_add_up_to_the_logit(data: st.DataObject, tiny: LanguageModel) -> None:
    ids = data.draw(st.lists(st.integers(0, 66), min_size=1, max_size=48), "ids")
    position = data.draw(st.integers(-len(ids), len(ids) - 1), "position")
    token = data.draw(st.integers(0, 66), "token")
    against = data.draw(st.none() | st.integers(0, 66), "against")
    trace = tiny.trace(ids)
    found = trace.logit_attribution(token, position, against)
    logits = trace["logits"][0, position]
    expected = logits[token] - (0 if against is None else logits[against])
    scale = sum(abs(part.value) for part in found)
    assert abs(found.total - expected) <= 1e-5 * max(scale, 1)
    assert abs(found.logit - expected) <= 1e-5 * max(scale, 1)
    kinds = [part.kind for part in found]
    assert kinds.count("head") == 6 and kinds.count("mlp") == 2 and kinds.count("bias") == 3
    assert len({part.name for part in found}) == len(found)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text("abcdefgh ,.'é", min_size=1, max_size=40), data=st.data())
def test_the_parts_of_the_demo_models_logits_add_up(text: str, data: st.DataObject, demo: LanguageModel) -> None:
    trace = demo.trace(text)
    position = data.draw(st.integers(0, len(trace.ids) - 1), "position")
    token = data.draw(st.integers(0, 50256), "token")
    found = trace.logit_attribution(token, position)
    assert found.total == pytest.approx(float(trace["logits"][0, position, token]), abs=1e-3)


def test_a_part_is_its_effect_on_the_logit_at_a_fixed_norm_scale(tiny: LanguageModel) -> None:
    ids = [3, 17, 40, 8]
    trace = tiny.trace(ids)
    found = trace.logit_attribution(11)
    norm, head = tiny.model.transformer.ln_f, tiny.model.lm_head.weight
    stream = trace.tensor("blocks.1.resid_post")[0, -1]
    scale = (stream.var(unbiased=False) + norm.eps).sqrt()
    result = trace.tensor("blocks.0.attn.result")[0, -1]  # [n_head, n_embd]

    def logit(of: torch.Tensor) -> float:
        return float((((of - of.mean()) / scale * norm.weight + norm.bias) @ head[11]).detach())

    for number in range(3):
        lost = logit(stream) - logit(stream - result[number])
        assert found[f"blocks.0.attn.head.{number}"].value == pytest.approx(lost, abs=1e-4)
        assert found.heads[0, number] == pytest.approx(lost, abs=1e-4)


def test_attribution_is_of_the_most_likely_token_by_default(demo: LanguageModel) -> None:
    found = demo.trace(TEXT).logit_attribution()
    best = demo.predict(TEXT, top=1)[0]
    assert (found.target_id, found.target) == (best.id, best.token)
    assert found.logit == pytest.approx(best.logit, abs=1e-3)
    strongest = found.strongest(5)
    assert [abs(part.value) for part in strongest] == sorted((abs(part.value) for part in found), reverse=True)[:5]


@pytest.fixture(scope="module")
def long_trace(demo: LanguageModel) -> Trace:
    """Trace of a text that the lens and the attribution read in several chunks."""
    ids = np.random.default_rng(0).integers(0, demo.config.vocab_size, 300).tolist()
    trace: Trace = demo.trace(ids)
    return trace


def test_a_long_text_is_read_in_chunks_without_gaps(demo: LanguageModel, long_trace: Trace) -> None:
    told: list[tuple[int, int]] = []
    lens = logit_lens(long_trace, top=3, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert lens.top_ids.shape == (9, 300, 3) and lens.target_ranks.shape == (9, 300)
    theirs = twin(demo)
    with torch.no_grad():
        hidden = theirs(torch.tensor([long_trace.ids]), output_hidden_states=True).hidden_states
        for row, place in ((0, 3), (4, 127), (4, 128), (7, 299)):
            logits = theirs.lm_head(theirs.transformer.ln_f(hidden[row][0, place])).double()
            assert lens.top_ids[row, place].tolist() == logits.topk(3).indices.tolist()
            assert lens.entropy[row, place] == pytest.approx(
                float(torch.distributions.Categorical(logits=logits).entropy()), rel=1e-4
            )
            target = lens.target_ids[place]
            assert lens.target_ranks[row, place] == int((logits > logits[target]).sum())
            assert lens.target_probabilities[row, place] == pytest.approx(float(logits.softmax(-1)[target]), rel=1e-3)
    assert (lens.target_ids == lens.top_ids[-1, :, 0]).all() and (lens.target_ranks[-1] == 0).all()


def test_attributions_of_several_positions_are_those_of_each(long_trace: Trace) -> None:
    places = [0, 5, *range(120, 140), 299]
    together = predicted_logit_attributions(long_trace, long_trace.logit_lens(), places)
    assert [one.position for one in together] == places
    for found in together:
        alone = long_trace.logit_attribution(position=found.position)
        assert (found.target_id, found.target) == (alone.target_id, alone.target)
        assert found.logit == pytest.approx(alone.logit, abs=1e-4)
        assert [(part.name, part.kind, part.layer, part.head) for part in found] == [
            (part.name, part.kind, part.layer, part.head) for part in alone
        ]
        np.testing.assert_allclose([part.value for part in found], [part.value for part in alone], atol=1e-6)
        assert found.total == pytest.approx(found.logit, abs=1e-3)


def test_a_trace_that_lacks_an_activation_says_which(demo: LanguageModel) -> None:
    trace = demo.trace(TEXT, ["attn.pattern"])
    with pytest.raises(ActivationNameError, match="resid_pre"):
        trace.logit_lens()
    with pytest.raises(ActivationNameError, match="resid_post"):
        trace.logit_attribution()


def test_a_trace_loaded_without_its_model_says_so(tiny: LanguageModel, tmp_path: object) -> None:
    path = f"{tmp_path}/trace.safetensors"
    tiny.trace([1, 2, 3]).save(path)
    with pytest.raises(TraceError, match="model"):
        Trace.load(path).logit_lens()
    again = Trace.load(path, model=tiny).logit_attribution(5)
    assert again.logit == pytest.approx(tiny.trace([1, 2, 3]).logit_attribution(5).logit)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda trace: trace.logit_lens(top=0), "top is 0"),
        (lambda trace: trace.logit_lens(" girl friend"), "not one token"),
        (lambda trace: trace.logit_lens([1, 2]), "2 ids"),
        (lambda trace: trace.logit_attribution(50257), "50257"),
        (lambda trace: trace.logit_attribution(position=99), "position is 99"),
        (lambda trace: trace.attention(layer=8), "layer is 8"),
        (lambda trace: trace.attention(head=[0, 6]), "head is 6"),
        (lambda trace: trace.neuron(0, 768), "no neuron 768"),
    ],
)
def test_a_bad_question_is_refused(demo: LanguageModel, ask: object, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        ask(demo.trace(TEXT))  # type: ignore[operator]


def test_results_tell_their_shapes_and_become_json(tiny: LanguageModel) -> None:
    import json

    lens = tiny.trace([1, 2, 3]).logit_lens()
    assert "top_ids=int64[3, 3, 5]" in repr(lens)
    told = json.loads(json.dumps(lens.to_dict()))
    assert np.array(told["top_logits"]).shape == (3, 3, 5)
    attribution = json.loads(json.dumps(tiny.trace([1, 2, 3]).logit_attribution(5).to_dict()))
    assert attribution["parts"][0] == {
        "name": "embed",
        "kind": "embed",
        "layer": None,
        "head": None,
        "value": pytest.approx(tiny.trace([1, 2, 3]).logit_attribution(5)["embed"].value),
    }
