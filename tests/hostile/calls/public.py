"""Public calls of a model. Each returns plain values, so that two runs can be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from pellucid.language_model import LanguageModel

# Several lengths, so that concurrent calls take different steps.
TEXTS = ["the fox", "the quick brown dogs jump over", "fox 123 doesn't", "日本 naïve", "a"]


def text(variant: int) -> str:
    return TEXTS[variant % len(TEXTS)]


def _digest(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def _generation(found: Any) -> list[Any]:
    return [[one.ids, one.logprob, one.finish_reason] for one in (found if isinstance(found, list) else [found])]


def generate(lm: LanguageModel, variant: int) -> Any:
    return _generation(lm.generate(text(variant), max_new_tokens=6))


def generate_many(lm: LanguageModel, variant: int) -> Any:
    return _generation(lm.generate([text(variant), text(variant + 1)], max_new_tokens=5))


def sample(lm: LanguageModel, variant: int) -> Any:
    return _generation(lm.generate(text(variant), max_new_tokens=6, temperature=0.9, top_p=0.9, seed=variant))


def beams(lm: LanguageModel, variant: int) -> Any:
    return _generation(lm.generate(text(variant), max_new_tokens=5, num_beams=3, num_return_sequences=2))


def contrastive(lm: LanguageModel, variant: int) -> Any:
    return _generation(lm.generate(text(variant), max_new_tokens=4, penalty_alpha=0.5, top_k=3))


def lookup(lm: LanguageModel, variant: int) -> Any:
    return _generation(lm.generate(text(variant) * 2, max_new_tokens=6, prompt_lookup_num_tokens=3))


def assisted(lm: LanguageModel, variant: int) -> Any:
    return _generation(lm.generate(text(variant), max_new_tokens=5, assistant_model=lm))


def stream(lm: LanguageModel, variant: int) -> Any:
    return list(lm.stream(text(variant), max_new_tokens=6))


def stream_record(lm: LanguageModel, variant: int) -> Any:
    return [list(record.new_ids) for record in lm.stream_record(text(variant), max_new_tokens=3, num_beams=2)]


def predict(lm: LanguageModel, variant: int) -> Any:
    return [[row.id, row.probability] for row in lm.predict(text(variant), top=4)]


def score(lm: LanguageModel, variant: int) -> Any:
    return [row.logprob for row in lm.score(text(variant), given="")]


def replay(lm: LanguageModel, variant: int) -> Any:
    record = lm.generate(text(variant), max_new_tokens=4, temperature=0.8, seed=variant, record=True).record
    return _generation(lm.replay(record))


def session(lm: LanguageModel, variant: int) -> Any:
    with lm.session(text(variant)) as steered:
        steered.append(" the")
        with steered.fork() as twin:
            other = twin.append("fox").undo(1).run(max_new_tokens=3).ids
        return [steered.run(max_new_tokens=3).ids, other, _digest(steered.distribution().logits)]


def trace(lm: LanguageModel, variant: int) -> Any:
    traced = lm.trace(text(variant))
    return {name: _digest(traced[name]) for name in traced}


def generation_trace(lm: LanguageModel, variant: int) -> Any:
    found = lm.generate(text(variant), max_new_tokens=3, trace=["blocks.*.attn.z", "logits"])
    return [found.ids, *(_digest(step[name]) for step in found.trace for name in step)]


def hooked_generate(lm: LanguageModel, variant: int) -> Any:
    with lm.hooks({"blocks.0.attn.z": lambda z, name: z * (variant % 3)}):
        return _generation(lm.generate(text(variant), max_new_tokens=4))


def hooked_stream(lm: LanguageModel, variant: int) -> Any:
    with lm.hooks({"blocks.1.mlp.post": lambda post, name: post * 0.5}):
        return list(lm.stream(text(variant), max_new_tokens=4))


def lens(lm: LanguageModel, variant: int) -> Any:
    traced = lm.trace(text(variant))
    return traced.logit_lens().entropy.tolist()


def attribution(lm: LanguageModel, variant: int) -> Any:
    return [[part.name, part.value] for part in lm.trace(text(variant)).logit_attribution().strongest(3)]


def encode(lm: LanguageModel, variant: int) -> Any:
    ids = lm.tokenizer.encode(text(variant))
    return [ids, lm.tokenizer.decode(ids), lm.tokenizer([text(variant)], padding=False)["input_ids"]]


# Calls that always run on the reference model are slower, and many threads share it.
WITH_TORCH: dict[str, Callable[[LanguageModel, int], Any]] = {
    function.__name__: function
    for function in (trace, generation_trace, hooked_generate, hooked_stream, lens, attribution)
}
DECODING: dict[str, Callable[[LanguageModel, int], Any]] = {
    function.__name__: function
    for function in (
        generate,
        generate_many,
        sample,
        beams,
        contrastive,
        lookup,
        assisted,
        stream,
        stream_record,
        predict,
        score,
        replay,
        session,
        encode,
    )
}
PUBLIC = {**DECODING, **WITH_TORCH}
