"""A program that uses the library, checked with mypy --strict by `test_typing`; it is not run.

A line that must be an error has a `type: ignore`, which mypy reports where there is no error.
"""

from collections.abc import Callable
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import pellucid
from pellucid import Generation, LanguageModel, Prediction, Score
from pellucid.decoding.records.record import Record
from pellucid.decoding.streaming import StreamedPiece

lm: LanguageModel = pellucid.load("demo", precision="float32")
text: str | None = lm.generate("x").text
assert_type(lm.generate("x", max_new_tokens=3, temperature=0.7, top_k=None, seed=1), Generation)
assert_type(lm.generate([1, 2, 3], stop_strings="end", suppress_tokens=[4]), Generation)
prompts = ["a", "b"]
texts = [g.text for g in lm.generate(prompts, num_return_sequences=2, do_sample=True)]
assert_type(lm.generate([[1], [2, 3]]), list[Generation])
assert_type(lm.generate("x", do_sample=True, num_return_sequences=2), Generation | list[Generation])
lm.generate("x", temprature=1)  # type: ignore[call-overload]
lm.generate("x", temperature="warm")  # type: ignore[call-overload]
lm.generate("x", early_stopping="soon")  # type: ignore[call-overload]
lm.generate(5)  # type: ignore[call-overload]

assert_type("".join(lm.stream("x", max_new_tokens=3)), str)
for piece in lm.stream(prompts):
    assert_type(piece, StreamedPiece)
for record in lm.stream_record("x", num_beams=2):
    assert_type(record, Record)
lm.stream("x", beams=2)  # type: ignore[call-overload]

assert_type(lm.score("x").perplexity, float)
assert_type([score.logprob for score in lm.score(prompts, given="y")], list[float])
assert_type(lm.score([1, 2]), Score)
assert_type(lm.predict("x", top=3), Prediction)
assert_type(lm.predict("x")[0].probability, float)

assert_type(lm.trace("x")["logits"], NDArray[np.float32])
assert_type([trace["embed"].ndim for trace in lm.trace(prompts)], list[int])

with lm.session("x", top_p=0.9) as session:
    assert_type(session.append(" y").run(max_new_tokens=3), Generation)
    session.distribution(top_k=3)
    session.run(topk=3)  # type: ignore[call-arg]


def shy(ids: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return logits


criteria: list[Callable[..., bool]] = [lambda ids, logits: len(ids) > 9]
lm.generate("x", logits_processor=shy, stopping_criteria=criteria, prefix_allowed_tokens_fn=lambda prompt, ids: [1])
lm.generate("x", sequence_bias={(1, 2): 3.0}, bad_words_ids=[[1]], num_beams=2, force_words_ids=[[1], [[2], [3, 4]]])
if (kept := lm.generate("x", record=True).record) is not None:
    assert_type(lm.replay(kept), Generation)
