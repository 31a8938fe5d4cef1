"""Cases that `record.py` runs on Transformers 4.49.0: options and prompts for three strategies.

Prompts of different lengths are padded on the left with a token that occurs in no prompt and is suppressed. Seeds count
up within a strategy, so a case that is inserted changes the prompts of those after it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

VOCAB_SIZE = 67
EOS = 0
PAD = 66  # occurs in no prompt, and is suppressed if prompts differ in length

Options = dict[str, Any]
Prompts = list[list[int]]
Case = tuple[Options, Prompts]


def prompts_of(seed: int, *lengths: int) -> Prompts:
    generator = random.Random(seed)
    return [[generator.randrange(1, PAD) for _ in range(length)] for length in lengths]


def batch_options(prompts: Prompts, options: Options) -> Options:
    """Options with which the padding of the prompts, if any, affects no processor and no hypothesis."""
    padded = len(set(map(len, prompts))) > 1
    return {"eos_token_id": EOS, **options, **({"pad_token_id": PAD, "suppress_tokens": [PAD]} if padded else {})}


def contrastive_cases() -> Iterator[Case]:
    seeds = iter(range(1000))
    shapes = [(5,), (4, 9, 6), (1,), (12, 3, 7)]

    def case(shape: Sequence[int], **options: Any) -> Case:
        prompts = prompts_of(next(seeds), *shape)
        return batch_options(prompts, options), prompts

    for index, (alpha, top_k) in enumerate([(0.1, 4), (0.3, 2), (0.4, 6), (0.6, 4), (0.6, 8), (0.7, 3), (0.9, 5)]):
        for offset, eos in enumerate([EOS, None]):
            shape = shapes[(index + offset) % len(shapes)]
            yield case(shape, penalty_alpha=alpha, top_k=top_k, max_new_tokens=25, eos_token_id=eos)
    for shape in ((6,), (2, 8, 5)):
        yield case(shape, penalty_alpha=0.6, top_k=4, max_new_tokens=1)
        yield case(shape, penalty_alpha=0.5, top_k=5, max_new_tokens=12, eos_token_id=[0, 33, 48])
        yield case(shape, penalty_alpha=0.6, top_k=4, max_new_tokens=12, repetition_penalty=1.4)
        yield case(shape, penalty_alpha=0.3, top_k=3, max_new_tokens=25, eos_token_id=None, repetition_penalty=0.8)
        yield case(shape, penalty_alpha=0.2, top_k=4, max_new_tokens=25, eos_token_id=None, no_repeat_ngram_size=2)
        yield case(shape, penalty_alpha=0.6, top_k=6, max_new_tokens=12, bad_words_ids=[[17], [33, 22], [48, 2, 5]])
        yield case(shape, penalty_alpha=0.4, top_k=8, max_new_tokens=25, min_new_tokens=10)
        yield case(
            shape,
            penalty_alpha=0.5,
            top_k=4,
            max_new_tokens=12,
            min_new_tokens=4,
            repetition_penalty=1.2,
            no_repeat_ngram_size=3,
        )
    yield case((5,), penalty_alpha=1.0, top_k=4, max_new_tokens=12)
    yield case((5,), penalty_alpha=0.6, max_new_tokens=12)
    # Few tokens are allowed, so that the candidates include forbidden ones, of probability 0.
    few = [token for token in range(VOCAB_SIZE) if token not in (17, 33, 48)]
    yield case((5,), penalty_alpha=0.8, top_k=6, max_new_tokens=12, eos_token_id=None, suppress_tokens=few)
    # The last token uses the last position of the model.
    yield case((40,), penalty_alpha=0.6, top_k=4, max_new_tokens=8, eos_token_id=None)
    yield case((5,), penalty_alpha=0.6, top_k=1, max_new_tokens=12)
    yield case((5,), penalty_alpha=0.6, top_k=68, max_new_tokens=12)
    yield case((5,), penalty_alpha=0.6, top_k=4, max_new_tokens=12, use_cache=False)
    yield case((5,), penalty_alpha=0.6, top_k=4, max_new_tokens=12, num_return_sequences=2)


def group_beam_cases() -> Iterator[Case]:
    seeds = iter(range(1000, 2000))

    def case(shape: Sequence[int], beams: int, groups: int, penalty: float, **options: Any) -> Case:
        prompts = prompts_of(next(seeds), *shape)
        search = {"num_beams": beams, "num_beam_groups": groups, "diversity_penalty": penalty}
        return batch_options(prompts, {**search, "pad_token_id": PAD, **options}), prompts

    shapes = [(5,), (4, 9, 6), (1, 3)]
    sizes = [(4, 2), (6, 3), (4, 4), (6, 2)]
    for index, length_penalty in enumerate([-1.0, 0.0, 1.0, 2.0]):
        for offset, early_stopping in enumerate([True, False, "never"]):
            beams, groups = sizes[(index + offset) % len(sizes)]
            yield case(
                shapes[offset],
                beams,
                groups,
                [0.2, 1.0, 2.5, 5.0][(index + 2 * offset) % 4],
                max_new_tokens=[12, 20][index % 2],
                length_penalty=length_penalty,
                early_stopping=early_stopping,
                num_return_sequences=[1, beams, groups][offset],
            )
    for shape in shapes:
        yield case(shape, 4, 2, 0.5, max_new_tokens=1, num_return_sequences=4)
        yield case(shape, 6, 3, 0.7, max_new_tokens=15, num_return_sequences=3, eos_token_id=[0, 33, 48])
        yield case(shape, 4, 4, 1.5, max_new_tokens=15, num_return_sequences=4, eos_token_id=None)
        yield case(shape, 6, 2, 0.4, max_new_tokens=15, num_return_sequences=2, repetition_penalty=1.3)
        yield case(shape, 4, 2, 2.0, max_new_tokens=15, num_return_sequences=4, no_repeat_ngram_size=2)
        yield case(shape, 6, 3, 1.0, max_new_tokens=15, num_return_sequences=6, min_new_tokens=6)
        yield case(shape, 6, 3, 1.2, max_new_tokens=10, num_return_sequences=3, bad_words_ids=[[17], [33, 22]])
    # Hypotheses end often, so that the result depends on when a group is done.
    for length_penalty in (-1.0, 1.0, 2.0):
        for early_stopping in (False, "never"):
            for shape in ((5,), (3, 7)):
                yield case(
                    shape,
                    6,
                    2,
                    0.6,
                    max_new_tokens=25,
                    length_penalty=length_penalty,
                    early_stopping=early_stopping,
                    num_return_sequences=3,
                    eos_token_id=[0, 33, 48],
                )
    yield case((5,), 4, 2, 1.0, max_new_tokens=10, num_return_sequences=4, renormalize_logits=True)
    yield case((5,), 6, 3, 1.0, max_new_tokens=10, num_return_sequences=3, sequence_bias={(17,): -4.0, (33, 22): 3.0})
    # Without a pad token a finished group is padded with eos, and later groups are penalised for choosing it.
    for beams, groups, early_stopping in [(4, 2, True), (6, 3, True), (4, 4, False), (6, 2, True)]:
        options, prompts = case(
            (6,),
            beams,
            groups,
            1.0,
            max_new_tokens=20,
            early_stopping=early_stopping,
            num_return_sequences=beams,
            eos_token_id=[0, 33, 48],
        )
        del options["pad_token_id"]
        yield options, prompts
    yield case((40,), 4, 2, 1.0, max_new_tokens=8, num_return_sequences=4)
    yield case((5,), 4, 3, 1.0, max_new_tokens=8)
    yield case((5,), 4, 2, 0.0, max_new_tokens=8)
    yield case((5,), 4, 2, -1.0, max_new_tokens=8, num_return_sequences=4)
    yield case((5,), 4, 2, 1, max_new_tokens=8)
    yield case((5,), 4, 1, 1.0, max_new_tokens=8)
    yield case((5,), 2, 4, 1.0, max_new_tokens=8)
    yield case((5,), 4, 2, 1.0, max_new_tokens=8, num_return_sequences=5)


def constrained_cases() -> Iterator[Case]:
    seeds = iter(range(2000, 3000))

    def case(shape: Sequence[int], force_words_ids: Any, beams: int, **options: Any) -> Case:
        prompts = prompts_of(next(seeds), *shape)
        search = {"force_words_ids": force_words_ids, "num_beams": beams, "pad_token_id": PAD}
        return batch_options(prompts, {**search, **options}), prompts

    yield case((5,), [[40]], 2, max_new_tokens=10)
    yield case((5,), [[40]], 4, max_new_tokens=10, num_return_sequences=4)
    yield case((4, 9, 6), [[12], [7]], 4, max_new_tokens=12, num_return_sequences=2)
    yield case((5,), [[12], [7], [61]], 6, max_new_tokens=12, num_return_sequences=3, early_stopping=True)
    yield case((5,), [[12, 7, 61]], 3, max_new_tokens=10, num_return_sequences=3)
    yield case((2, 7), [[12, 7], [61, 30, 5]], 5, max_new_tokens=15, num_return_sequences=2)
    yield case((5,), [[12, 7], [12, 30]], 4, max_new_tokens=12, num_return_sequences=4)
    yield case((5,), [[9, 9, 21]], 4, max_new_tokens=12, num_return_sequences=4)
    yield case((5,), [[17, 17, 4]], 4, max_new_tokens=14, num_return_sequences=4)
    yield case((5,), [[33], [33]], 4, max_new_tokens=10, num_return_sequences=4)
    yield case((5,), [[33, 22], [22, 59]], 4, max_new_tokens=10, num_return_sequences=4)
    yield case((5,), [[8, 9, 10, 11], [3]], 4, max_new_tokens=14, num_return_sequences=4)
    # Alternatives: whole lists, lists with a common prefix, of one and several tokens.
    yield case((5,), [[[40], [52]]], 4, max_new_tokens=10, num_return_sequences=4)
    yield case((3, 8), [[[40, 3], [52, 6]], [19]], 4, max_new_tokens=12, num_return_sequences=2)
    yield case((5,), [[[12, 7, 61], [12, 30], [12, 7, 5]]], 6, max_new_tokens=12, num_return_sequences=6)
    yield case((5,), [[[12, 7], [12, 30], [12, 33], [12, 17, 48]]], 4, max_new_tokens=12, num_return_sequences=4)
    yield case((6, 3), [[[12, 7, 7], [12, 30], [44]], [[22, 59], [22, 2]]], 5, max_new_tokens=9, num_return_sequences=3)
    yield case((5,), [[[33, 17], [33, 33], [33, 48]], [[2, 48], [2, 22]]], 8, max_new_tokens=15, num_return_sequences=4)
    for index, length_penalty in enumerate([-1.0, 0.0, 1.0, 2.0]):
        for offset, early_stopping in enumerate([True, False, "never"]):
            yield case(
                [(5,), (4, 9, 6)][(index + offset) % 2],
                [[[51], [14, 3]], [29, 8]] if offset % 2 else [[51, 14]],
                [3, 4, 6][(index + offset) % 3],
                max_new_tokens=[14, 20][index % 2],
                length_penalty=length_penalty,
                early_stopping=early_stopping,
                num_return_sequences=1 + offset,
            )
    # Hypotheses end often, so that the result depends on when the search is done.
    for length_penalty in (-1.0, 1.0, 2.0):
        for early_stopping in (True, False, "never"):
            for words in ([[[53], [17], [2], [22, 59]]], [[59]]):
                yield case(
                    (5,),
                    words,
                    3,
                    max_new_tokens=25,
                    length_penalty=length_penalty,
                    early_stopping=early_stopping,
                    num_return_sequences=3,
                    eos_token_id=[0, 33, 48],
                )
    yield case((5,), [[33, 22], [33, 48], [33, 17]], 6, max_new_tokens=15, num_return_sequences=6)
    yield case((5,), [[22, 59, 2], [22, 2], [22, 22, 17]], 8, max_new_tokens=18, num_return_sequences=4)
    yield case((4, 9, 6), [[12], [7]], 8, max_new_tokens=16, num_return_sequences=3, eos_token_id=[0, 33, 48])
    yield case((5,), [[12, 7]], 2, max_new_tokens=16, num_return_sequences=2, eos_token_id=[0, 33, 48, 22])
    yield case((4, 9), [[12, 7]], 4, max_new_tokens=12, num_return_sequences=4, eos_token_id=None)
    yield case((5,), [[12, 7]], 4, max_new_tokens=12, num_return_sequences=2, repetition_penalty=1.5)
    yield case((5,), [[12], [7]], 4, max_new_tokens=12, num_return_sequences=2, no_repeat_ngram_size=2)
    yield case((2, 6), [[12], [7]], 4, max_new_tokens=12, num_return_sequences=2, min_new_tokens=8)
    # The words just fit, or do not.
    yield case((5,), [[12, 7, 61]], 4, max_new_tokens=3, num_return_sequences=4)
    yield case((5,), [[12], [7]], 4, max_new_tokens=2, num_return_sequences=2)
    yield case((5,), [[12, 7, 61]], 4, max_new_tokens=2, num_return_sequences=4)
    yield case((4, 7), [[12], [7], [61]], 3, max_new_tokens=1, num_return_sequences=3)
    # The prompt contains the word or its beginning.
    for prompt in ([5, 12, 7, 9], [5, 9, 12]):
        options, _ = case((4,), [[12, 7]], 4, max_new_tokens=10, num_return_sequences=4)
        yield options, [prompt]
    # Another option forbids the word: hypotheses with it have a score of minus infinity.
    yield case((5,), [[12]], 3, max_new_tokens=8, num_return_sequences=3, bad_words_ids=[[12]])
    yield case((40,), [[12, 7]], 4, max_new_tokens=8, num_return_sequences=4)
    yield case((5,), [[12]], 1, max_new_tokens=8)
    yield case((5,), [], 4, max_new_tokens=8)
    yield case((5,), [[]], 4, max_new_tokens=8)
    yield case((5,), [12], 4, max_new_tokens=8)
    yield case((5,), [[-1]], 4, max_new_tokens=8)
    yield case((5,), [[VOCAB_SIZE]], 4, max_new_tokens=8)
    yield case((5,), [[[12, 7], [12]]], 4, max_new_tokens=8)
    yield case((5,), [[[12, 7], [12, 7]]], 4, max_new_tokens=8)
    yield case((5,), [[12]], 4, max_new_tokens=8, num_beam_groups=2, diversity_penalty=1.0)
    yield case((5,), [[12]], 4, max_new_tokens=8, num_return_sequences=5)
