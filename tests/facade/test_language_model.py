"""`load` and `LanguageModel`, on the bundled model."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import pellucid
from pellucid import Generation, LanguageModel, Score
from pellucid.checkpoint import open_checkpoint
from pellucid.errors import (
    ContextLengthError,
    DecodingError,
    ModelNotFoundError,
    OptionError,
    PicklingError,
    TokenizerError,
)
from pellucid.logits import log_softmax

from ..decoding.engines import ScriptedEngine

PROMPT = "long long ago, I was"


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return pellucid.load("demo")


@pytest.fixture(scope="module")
def oracle(lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> transformers.GPT2LMHeadModel:
    """The bundled model in Transformers."""
    folder = tmp_path_factory.mktemp("demo")
    pellucid.AutoModelForCausalLM.from_pretrained("demo").save_pretrained(folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder)


def one(result: Generation | list[Generation]) -> Generation:
    assert isinstance(result, Generation)
    return result


def one_score(result: Score | list[Score]) -> Score:
    assert isinstance(result, Score)
    return result


def test_the_bundled_model_is_a_gpt2_of_the_promised_size(lm: LanguageModel) -> None:
    assert 8_000_000 <= lm.config.parameter_count <= 15_000_000
    assert lm.config.vocab_size == len(lm.tokenizer) == 50257
    weights = Path(pellucid.__file__).parent / "assets" / "demo" / "model.safetensors"
    assert weights.stat().st_size <= 32_000_000
    assert "demo" in repr(lm)


def test_logits_and_tokens_of_the_bundled_model_equal_transformers(
    lm: LanguageModel, oracle: transformers.GPT2LMHeadModel
) -> None:
    prompts = [PROMPT, "Once upon a time there was a", "The dog"]
    for prompt in prompts:
        ids = torch.tensor([lm.tokenizer.encode(prompt)])
        with torch.no_grad():
            expected = oracle(ids).logits[0].numpy()
        got = lm.engine.step([lm.engine.open()], [ids[0].tolist()], all_positions=True).logits
        assert np.abs(got - expected).max() / np.abs(expected).max() < 1e-4
        for options in ({}, {"num_beams": 3}):
            call = {"max_new_tokens": 30, "do_sample": False, "pad_token_id": 50256, **options}
            theirs = oracle.generate(ids, attention_mask=torch.ones_like(ids), **call)[0].tolist()
            assert one(lm.generate(prompt, max_new_tokens=30, **options)).ids == theirs


def test_the_bundled_model_has_learned_english(lm: LanguageModel) -> None:
    sentence = "Once upon a time there was a little girl who lived in a small house near the forest."
    shuffled = "forest near a Once there girl small lived. upon the a who in time house was little a"
    assert one_score(lm.score(sentence)).perplexity < 30
    assert one_score(lm.score(shuffled)).perplexity > 300
    written = one(lm.generate("Once upon a time there was a little", max_new_tokens=30)).text
    assert one_score(lm.score(str(written))).perplexity < 10


def test_a_generation_holds_text_and_ids_that_fit_together(lm: LanguageModel) -> None:
    g = one(lm.generate(PROMPT, max_new_tokens=8))
    assert g.text == PROMPT + str(g.new_text)
    assert g.ids == lm.tokenizer.encode(PROMPT) + g.new_ids
    assert g.new_text == lm.tokenizer.decode(g.new_ids)
    assert (len(g.new_ids), g.finish_reason, g.record) == (8, "length", None)
    assert g.logprob < 0
    assert one(lm.generate(g.ids[: -len(g.new_ids)], max_new_tokens=8)) == g


def test_one_prompt_gives_one_generation_and_several_give_a_flat_list(lm: LanguageModel) -> None:
    several = lm.generate([PROMPT, "The dog"], num_beams=3, num_return_sequences=2, max_new_tokens=4)
    assert isinstance(several, list)
    starts = [PROMPT] * 2 + ["The dog"] * 2
    assert all(str(g.text).startswith(start) for g, start in zip(several, starts, strict=True))
    assert isinstance(lm.generate([PROMPT], max_new_tokens=2), list)
    assert isinstance(lm.generate([[1, 2], [3]], max_new_tokens=2), list)
    assert isinstance(lm.generate(PROMPT, num_beams=2, num_return_sequences=2, max_new_tokens=2), list)
    assert len(one(lm.generate(PROMPT)).new_ids) == 40


@pytest.mark.parametrize("options", [{}, {"temperature": 1.3, "seed": 5}, {"do_sample": True, "seed": 1}], ids=str)
def test_a_stream_is_the_generation_in_pieces(lm: LanguageModel, options: dict[str, Any]) -> None:
    pieces = list(lm.stream(PROMPT, max_new_tokens=30, **options))
    assert len(pieces) > 5
    assert "".join(pieces) == one(lm.generate(PROMPT, max_new_tokens=30, **options)).new_text


def test_closing_a_stream_frees_its_slots() -> None:
    lm = pellucid.load("demo", engine="torch")
    stream = lm.stream(PROMPT)
    next(stream)
    assert lm.engine.open_slots == 1
    stream.close()  # type: ignore[attr-defined]
    assert lm.engine.open_slots == 0


def test_a_prediction_is_the_softmax_over_the_whole_vocabulary(
    lm: LanguageModel, oracle: transformers.GPT2LMHeadModel
) -> None:
    with torch.no_grad():
        logits = oracle(torch.tensor([lm.tokenizer.encode(PROMPT)])).logits[0, -1]
    probabilities = logits.softmax(-1)
    best = probabilities.topk(7)
    prediction = lm.predict(PROMPT, top=7)
    assert [row.id for row in prediction] == best.indices.tolist()
    assert [row.probability for row in prediction] == pytest.approx(best.values.tolist(), rel=1e-3)
    assert [row.rank for row in prediction] == list(range(7))
    assert prediction[0].token == lm.tokenizer.decode([prediction[0].id])
    assert prediction[0].logit == pytest.approx(float(logits.max()), rel=1e-4)
    assert prediction.entropy == pytest.approx(
        float(torch.distributions.Categorical(logits=logits).entropy()), rel=1e-3
    )
    assert list(prediction.to_pandas()["id"]) == best.indices.tolist()
    assert len(lm.predict(PROMPT, top=10**6)) == lm.config.vocab_size


def test_a_score_is_the_log_probability_of_each_token(lm: LanguageModel, oracle: transformers.GPT2LMHeadModel) -> None:
    text = "Once upon a time there was a fox."
    ids = torch.tensor([lm.tokenizer.encode(text)])
    with torch.no_grad():
        log_probabilities = oracle(ids).logits[0].log_softmax(-1)
        loss = float(oracle(ids, labels=ids).loss)
    score = lm.score(text)
    assert isinstance(score, pellucid.Score)
    assert score.rows[0].logprob is None
    for position, row in enumerate(score.rows[1:]):
        expected = float(log_probabilities[position, row.id])
        assert row.logprob == pytest.approx(expected, abs=1e-3)
        assert row.rank == int((log_probabilities[position] > log_probabilities[position, row.id]).sum())
    assert score.perplexity == pytest.approx(math.exp(loss), rel=1e-3)
    with_bos = lm.score(text, given="")
    assert isinstance(with_bos, pellucid.Score)
    assert with_bos.rows[0].logprob is not None
    several = lm.score([text, "a"])
    assert isinstance(several, list)
    assert math.isnan(several[1].perplexity)


def test_a_text_that_fills_the_positions_can_be_scored_after_another_token(lm: LanguageModel) -> None:
    positions = lm.config.n_positions
    ids = [262] * (positions - 1) + [11]
    score = one_score(lm.score(ids, given=[50256]))
    slot = lm.engine.open()
    expected = log_softmax(lm.engine.step([slot], [[50256, *ids[:-1]]]).logits[0])
    assert len(score) == positions
    assert score.rows[-1].logprob == pytest.approx(float(expected[11]), abs=1e-4)
    assert one_score(lm.score([262])).rows[0].logprob is None


def test_logits_that_are_not_finite_are_never_a_score_or_a_prediction() -> None:
    def logits_after(ids: list[int]) -> np.ndarray:
        logits = np.zeros(50257, dtype=np.float32)
        logits[7] = np.nan
        return logits

    lm = LanguageModel(open_checkpoint("demo"), ScriptedEngine(logits_after, 50257))  # type: ignore[arg-type]
    for call in (lambda: lm.predict([5]), lambda: lm.score([5, 6])):
        with pytest.raises(DecodingError, match="not finite: nan for id 7"):
            call()


def test_pickling_a_model_says_how_workers_load_it(lm: LanguageModel) -> None:
    with pytest.raises(PicklingError, match=r"in every worker: pellucid\.load\('demo', precision='float32'\)"):
        pickle.dumps(lm)


def test_an_empty_prompt_starts_from_bos(lm: LanguageModel) -> None:
    assert one(lm.generate("", max_new_tokens=3)).ids[0] == lm.config.bos_token_id
    assert one(lm.generate("a", max_new_tokens=3)).ids[0] != lm.config.bos_token_id


def test_the_bos_of_an_empty_prompt_has_no_text(lm: LanguageModel) -> None:
    for options in ({}, {"num_beams": 2}, {"stop_strings": ["e", "."]}):
        g = one(lm.generate("", max_new_tokens=6, **options))
        assert g.text == g.new_text != ""
    written = one(lm.generate("a<|endoftext|>", max_new_tokens=2))
    assert written.text == f"a<|endoftext|>{written.new_text}"


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"do_sample": True, "seed": 3}], ids=str)
def test_the_end_of_text_that_ends_a_continuation_is_in_its_ids_only(
    lm: LanguageModel, options: dict[str, Any]
) -> None:
    g = one(lm.generate(PROMPT, max_new_tokens=5, forced_eos_token_id=50256, **options))
    assert (g.new_ids[-1], g.finish_reason) == (50256, "eos")
    assert g.new_text == lm.tokenizer.decode(g.new_ids[:-1])
    assert g.text == PROMPT + str(g.new_text)


def test_a_forced_eos_comes_at_the_default_length_too(lm: LanguageModel) -> None:
    g = one(lm.generate(PROMPT, forced_eos_token_id=50256))
    assert (len(g.new_ids), g.new_ids[-1], g.finish_reason) == (40, 50256, "eos")


@pytest.mark.parametrize("ids", [[64, 50256], [50256], [64, 50256, 64, 50256], [0xA6, 50256]], ids=str)
def test_a_stream_ends_before_the_end_of_text_as_the_generation_does(lm: LanguageModel, ids: list[int]) -> None:
    def allowed(_: int, so_far: Any) -> list[int]:
        return [ids[len(so_far) - 1]]

    options: dict[str, Any] = {"max_new_tokens": len(ids), "prefix_allowed_tokens_fn": allowed}
    options["eos_token_id"] = 50256 if 50256 not in ids[:-1] else 0
    g = one(lm.generate([70], **options))
    assert g.new_ids == ids
    assert "".join(lm.stream([70], **options)) == g.new_text == lm.tokenizer.decode(ids[:-1])


def test_byte_fragments_are_shown_as_bytes(lm: LanguageModel) -> None:
    fragment = lm.tokenizer.encode("語")[0]
    score = lm.score([fragment, fragment])
    assert isinstance(score, pellucid.Score)
    assert score.rows[0].token is not None
    assert score.rows[0].token.startswith("\\x")
    assert "\ufffd" not in score.rows[0].token


def test_results_print_themselves_in_terminals_and_notebooks(lm: LanguageModel) -> None:
    from rich.console import Console

    console = Console(width=80, file=open("/dev/null", "w"), record=True)  # noqa: SIM115
    prediction = lm.predict(PROMPT, top=3)
    console.print(prediction)
    shown = console.export_text()
    assert f"{prediction[0].probability:.2%}" in shown
    for result in (prediction, lm.score(PROMPT), lm.generate(PROMPT, max_new_tokens=3)):
        html = result._repr_html_()  # type: ignore[union-attr]
        assert html is not None
        assert html.startswith(("<div", "<p"))
    markup = lm.score("<b>x\n\x1b[2J")
    assert not isinstance(markup, list)
    assert "<b>" not in str(markup._repr_html_())
    console.print(markup)
    assert "\x1b[2J" not in console.export_text(styles=True)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda lm: lm.generate(PROMPT, num_beams=0), OptionError, "num_beams"),
        (lambda lm: lm.generate([[50257]]), OptionError, "id 50257"),
        (lambda lm: lm.generate([]), None, ""),
        (lambda lm: lm.generate([1.5]), OptionError, "string or a list of token ids"),
        (lambda lm: lm.generate(5), OptionError, "the prompt is 5; it must be a string, a list of token ids"),
        (lambda lm: lm.generate(None), OptionError, "the prompt is None"),
        (lambda lm: lm.generate(b"x"), OptionError, "the prompt is b'x'"),
        (lambda lm: lm.generate({"prompt": "x"}), OptionError, "the prompt is {'prompt': 'x'}"),
        (lambda lm: lm.generate({5}), OptionError, r"the prompt is \{5\}"),
        (lambda lm: lm.generate(["x", None]), OptionError, "string or a list of token ids"),
        (lambda lm: lm.generate(PROMPT, stop="x"), OptionError, "unknown option stop: did you mean stop_strings"),
        (lambda lm: lm.generate(PROMPT, max_tokens=1), OptionError, "did you mean max_new_tokens"),
        (lambda lm: lm.score(PROMPT, given=["a", "b"]), OptionError, "given is one prompt"),
        (lambda lm: lm.predict(PROMPT, top=1.5), OptionError, "top is 1.5"),
        (lambda lm: lm.score([1] * 512, given=[5, 6]), ContextLengthError, "514 tokens need 513 positions"),
        (lambda lm: lm.generate(PROMPT, max_new_tokens=10**6), ContextLengthError, "positions"),
        (lambda lm: lm.stream(PROMPT, num_beams=2), OptionError, "num_beams: a beam search has no text before it ends"),
        (lambda lm: lm.predict(PROMPT, top=0), OptionError, "top is 0"),
        (lambda lm: lm.score([5] * 5000), ContextLengthError, "score it in parts"),
    ],
)
def test_bad_calls_are_clear_errors(lm: LanguageModel, call: Any, error: type[Exception] | None, said: str) -> None:
    if error is None:
        assert one(call(lm)).ids[0] == lm.config.bos_token_id  # an empty list of ids starts from bos
        return
    with pytest.raises(error, match=said):
        call(lm)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"precision": "int3"}, OptionError, "precision is 'int3'"),
        ({"engine": "abacus"}, OptionError, "engine is 'abacus'"),
        ({"threads": 0}, OptionError, "threads is 0"),
        ({"device": "abacus"}, OptionError, "device is 'abacus'"),
        ({"name_or_path": "no-such-model-anywhere"}, ModelNotFoundError, "no-such-model-anywhere"),
    ],
)
def test_bad_loads_are_clear_errors(options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        pellucid.load(**{"name_or_path": "demo", **options})


def test_a_checkpoint_without_a_tokenizer_works_on_ids_and_says_so_on_text(tmp_path: Path) -> None:
    transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_embd=16, n_head=2, n_layer=1, vocab_size=30, n_positions=32, bos_token_id=0, eos_token_id=0
        )
    ).save_pretrained(tmp_path)
    lm = pellucid.load(tmp_path)
    g = one(lm.generate([3, 4], max_new_tokens=4))
    assert (g.text, len(g.new_ids)) == (None, 4)
    assert lm.predict([3, 4], top=2)[0].token is None
    with pytest.raises(TokenizerError, match="no tokenizer"):
        lm.generate("hello")
