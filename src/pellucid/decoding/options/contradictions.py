"""Which options exclude, need or bound each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pellucid.errors import OptionError

if TYPE_CHECKING:
    from pellucid.decoding.options import GenerationOptions

# Contrastive search keeps a row of logits over the whole vocabulary for each of its candidates.
MOST_CANDIDATES = 1024

_BEAMS_ONLY = ("length_penalty", "early_stopping", "num_beam_groups", "diversity_penalty", "force_words_ids")
_NEUTRAL = {"length_penalty": 1, "early_stopping": False, "num_beam_groups": 1, "diversity_penalty": 0}


def check_together(options: GenerationOptions) -> None:
    """Raise `OptionError`, naming them, where two options do not go together."""
    _check_lengths(options)
    _check_forced_tokens(options)
    _check_beams(options)
    _check_groups(options)
    _check_forced_words(options)
    _check_contrastive(options)
    _check_drafts(options)
    if not options.do_sample and options.num_beams == 1 and options.num_return_sequences > 1:
        raise OptionError(
            "num_return_sequences is more than 1, but greedy decoding has one result: "
            "sample (do_sample=True) or use beams (num_beams=...)"
        )


def _check_lengths(options: GenerationOptions) -> None:
    for least, most in (("min_new_tokens", "max_new_tokens"), ("min_length", "max_length")):
        lower, upper = getattr(options, least), getattr(options, most)
        if upper is not None and lower > upper:
            raise OptionError(f"{least} ({lower}) is more than {most} ({upper})")
    if options.exponential_decay_length_penalty is not None and not options.eos_token_id:
        raise OptionError("exponential_decay_length_penalty needs an eos_token_id, and this model has none")


def _check_forced_tokens(options: GenerationOptions) -> None:
    first = () if options.forced_bos_token_id is None else (options.forced_bos_token_id,)
    for name, forced in (("forced_bos_token_id", first), ("forced_eos_token_id", options.forced_eos_token_id)):
        if forced and set(forced) <= set(options.suppress_tokens):
            listed = ", ".join(map(str, forced))
            raise OptionError(f"{name} ({listed}) is in suppress_tokens too: nothing would be left")


def _check_beams(options: GenerationOptions) -> None:
    if options.num_beams == 1:
        for name in _BEAMS_ONLY:
            if getattr(options, name) not in (None, _NEUTRAL.get(name)):
                raise OptionError(f"{name} is for beam search: give num_beams of at least 2 with it")
    elif options.num_return_sequences > options.num_beams:
        raise OptionError(
            f"num_return_sequences ({options.num_return_sequences}) is more than num_beams ({options.num_beams}): "
            "a beam search returns at most one sequence a beam"
        )


def _check_groups(options: GenerationOptions) -> None:
    groups, beams = options.num_beam_groups, options.num_beams
    if groups > 1:
        if groups > beams or beams % groups:
            raise OptionError(f"num_beam_groups ({groups}) must divide num_beams ({beams})")
        if options.do_sample:
            raise OptionError("num_beam_groups cannot be combined with sampling")
        if options.diversity_penalty == 0:
            raise OptionError("num_beam_groups needs a diversity_penalty above 0, without which all groups are alike")
    elif options.diversity_penalty != 0:
        raise OptionError("diversity_penalty needs num_beam_groups of at least 2")


def _check_forced_words(options: GenerationOptions) -> None:
    if options.force_words_ids is not None:
        if options.do_sample:
            raise OptionError("force_words_ids cannot be combined with sampling")
        if options.num_beam_groups > 1:
            raise OptionError("force_words_ids cannot be combined with num_beam_groups")
        for forms in options.force_words_ids:
            _check_forms(forms, options.eos_token_id)


def _check_forms(forms: tuple[tuple[int, ...], ...], eos_token_id: tuple[int, ...]) -> None:
    for place, form in enumerate(forms):
        if not set(form).isdisjoint(eos_token_id):
            raise OptionError(
                f"force_words_ids has {list(form)}, which has an eos_token_id: no text goes on after that"
            )
        for other in forms[:place] + forms[place + 1 :]:
            if other[: len(form)] == form:
                raise OptionError(
                    f"force_words_ids gives {list(form)} and {list(other)} to choose from, of which one begins with "
                    "the other: leave one of them out"
                )


def _check_contrastive(options: GenerationOptions) -> None:
    if options.penalty_alpha == 0:
        return
    if options.do_sample:
        raise OptionError("penalty_alpha, contrastive search, cannot be combined with sampling")
    if options.num_beams > 1:
        raise OptionError("penalty_alpha, contrastive search, cannot be combined with num_beams")
    if options.top_k is None or options.top_k < 2:
        raise OptionError("penalty_alpha, contrastive search, needs a top_k of at least 2: the candidates to compare")
    if options.top_k > MOST_CANDIDATES:
        raise OptionError(
            f"penalty_alpha, contrastive search, reads each of the top_k candidates: top_k is {options.top_k}; it must "
            f"be at most {MOST_CANDIDATES}"
        )
    if options.context == "slide":
        raise OptionError('penalty_alpha, contrastive search, compares with the whole text: context="slide" cuts it')


def _check_drafts(options: GenerationOptions) -> None:
    if options.prompt_lookup_num_tokens is not None:
        if options.num_beams > 1:
            raise OptionError("prompt_lookup_num_tokens cannot be combined with num_beams")
        if options.penalty_alpha:
            raise OptionError("prompt_lookup_num_tokens cannot be combined with penalty_alpha")


def check_with_assistant(options: GenerationOptions) -> None:
    """Raise `OptionError` where options do not go together with an assistant model."""
    if options.num_beams > 1:
        raise OptionError("assistant_model cannot be combined with num_beams")
    if options.penalty_alpha:
        raise OptionError("assistant_model cannot be combined with penalty_alpha")
    if options.prompt_lookup_num_tokens is not None:
        raise OptionError("assistant_model and prompt_lookup_num_tokens both draft tokens: give one of them")
    if options.context == "slide":
        raise OptionError('assistant_model cannot be combined with context="slide"')
