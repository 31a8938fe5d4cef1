"""Words and numbers for views of a record, shared by terminals, HTML and figures."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pellucid.decoding.records.record import Record
from pellucid.decoding.records.values import Distribution, Expansion, Hypothesis, TokenStep
from pellucid.views.tables import percent, visible

_BYTE = re.compile(r"\\x([89a-f][0-9a-f])")
_LONGEST_VALUE = 60
# Options that are derived from the model, not given by the caller.
_OF_THE_MODEL = ("vocab_limit", "pad_token_id")


def token_text(tokens: Mapping[int, str], token: int) -> str:
    """A token, quoted; its id if the record has no text for it."""
    return visible(tokens.get(token), token)


def passage(tokens: Mapping[int, str], ids: Sequence[int]) -> str:
    """The text of several tokens, with incomplete UTF-8 sequences as \\x escapes. Ids if the record has no text for
    one of them."""
    if any(token not in tokens for token in ids):
        return " ".join(f"#{token}" for token in ids)
    raw = b"".join(_bytes(tokens[token]) for token in ids)
    return raw.decode("utf-8", errors="backslashreplace")


def shown_passage(tokens: Mapping[int, str], ids: Sequence[int]) -> str:
    """The same on one line: quoted, with line ends and control characters escaped."""
    if any(token not in tokens for token in ids):
        return passage(tokens, ids)
    return visible(passage(tokens, ids), 0)


def _bytes(text: str) -> bytes:
    """A token's bytes from its text in a record, which escapes bytes of incomplete characters."""
    parts = _BYTE.split(text)
    return b"".join(
        bytes([int(part, 16)]) if number % 2 else part.encode("utf-8", errors="surrogatepass")
        for number, part in enumerate(parts)
    )


def paragraph(text: str) -> str:
    """Text on one line: line ends as ↵, control characters escaped."""
    return "↵".join(written_out(line) for line in text.split("\n"))


def chance(distribution: Distribution, token: int) -> str:
    """A token's probability in a distribution: a dot if it is 0, and an upper bound if the record did not keep it."""
    logprob = distribution.logprob(token)
    if logprob == float("-inf") or (logprob is None and distribution.kept <= len(distribution.top)):
        return "·"
    if logprob is None:
        return f"<{percent(distribution.top[-1].probability).lstrip('<')}"
    return percent(min(1.0, math.exp(logprob)))


def chances(expansion: Expansion, token: int, step: TokenStep | None = None) -> list[str]:
    """A token's probability under the model and after each processor. step: the step that chose from the distributions;
    the first and the last probability of its token are always known."""
    found = [chance(stage.distribution, token) for stage in stages(expansion)]
    if step is not None and token == step.token:
        found[-1], found[0] = percent(step.probability), percent(probability(step))
    return found


@dataclass(frozen=True)
class Stage:
    """The distribution after one stage: the model, or one of the processors."""

    name: str
    distribution: Distribution


def stages(expansion: Expansion) -> list[Stage]:
    """The model's own distribution, then the one after each processor."""
    return [Stage("model", expansion.model), *(Stage(effect.label, effect.after) for effect in expansion.processors)]


def tokens_to_compare(expansion: Expansion, top: int, step: TokenStep | None = None) -> list[int]:
    """The `top` likeliest tokens before all processors, those after all, and the token that the step chose."""
    found = dict.fromkeys(entry.id for entry in expansion.model.top[:top])
    found.update(dict.fromkeys(entry.id for entry in expansion.chosen_from.top[:top]))
    if step is not None:
        found[step.token] = None
    return list(found)


def kept(expansion: Expansion) -> str:
    """The number of candidates, and that after each processor that removed any: 50257 → 40 → 12."""
    counts = [expansion.model.kept]
    for effect in expansion.processors:
        if effect.after.kept != counts[-1]:
            counts.append(effect.after.kept)
    return " → ".join(map(str, counts))


def alternatives(step: TokenStep, top: int) -> list[tuple[int, float]]:
    """The `top` likeliest tokens that a step did not choose, with their probabilities under the model."""
    others = [(entry.id, entry.probability) for entry in step.expansion.model.top if entry.id != step.token]
    return others[:top]


def probability(step: TokenStep) -> float:
    """The probability of a step's token under the model."""
    return min(1.0, math.exp(step.logprob))


def how_chosen(tokens: Mapping[int, str], step: TokenStep) -> str:
    """A sentence on how a step chose its token."""
    words = {
        "greedy": "the likeliest",
        "sampled": "drawn",
        "drafted": "drafted and accepted",
        "corrected": "drawn after a rejected draft",
        "contrastive": "chosen by contrastive search",
        "searched": "found by a beam search",
        "steered": "set by the caller",
    }[step.source]
    if step.uniform is not None:
        words += f" by {step.uniform:.4f}"
    if step.rejected is not None:
        words += f", not {token_text(tokens, step.rejected)} as drafted"
    if step.expansion.processors:
        words += f", with {percent(step.probability)}"
    return f"{words}; under the model {percent(probability(step))}, rank {step.rank}"


def step_count(record: Record) -> int:
    """The number of steps of a record. For a beam search: the number of new tokens of its longest hypothesis."""
    return max((node.length for node in record.tree), default=len(record.steps))


def slide_note(kept_tokens: int) -> str:
    return f"no positions were left: the cache was recomputed for the first token and the last {kept_tokens - 1}"


def fate(node: Hypothesis) -> str:
    """The fate of a hypothesis in a few words; empty if it was extended."""
    if node.fate == "cut":
        return f"cut in step {node.ended}"
    if node.fate == "displaced":
        return f"displaced in {node.ended}"
    if node.fate == "finished":
        return f"finished, {node.finish_reason}"
    if node.fate == "returned":
        return f"returned, rank {node.rank}"
    return "" if node.fate == "extended" else node.fate


def births(nodes: Sequence[Hypothesis]) -> str:
    """The steps that created a chain of hypotheses: "3" or "3-7"."""
    steps = [node.length - 1 for node in nodes if node.length]
    if not steps:
        return ""
    return str(steps[0]) if steps[0] == steps[-1] else f"{steps[0]}-{steps[-1]}"


def facts(record: Record) -> list[tuple[str, str]]:
    """Facts about the whole decode, apart from its texts: pairs of a name and a value."""
    found = [("model", record.model or "-"), ("strategy", record.strategy.replace("_", " "))]
    found += [("options", _options(record.options))] if _options(record.options) else []
    ended = f", ended by {record.finish_reason}" if record.finish_reason else ""
    lengths = f"{len(record.prompt_ids)} in the prompt, {len(record.new_ids)} new{ended}"
    found += [("tokens", lengths), ("log-probability", f"{record.logprob:.2f}")]
    if record.returned is not None:
        node = record.tree[record.returned]
        score = "" if node.final_score is None else f", normalised by length {node.final_score:.3f}"
        found.append(("score", f"{node.score:.2f}{score}"))
    if record.acceptance_rate is not None:
        accepted = f"{record.accepted} of {record.drafted} drafted tokens were accepted ({record.acceptance_rate:.0%})"
        found.append(("speculation", accepted))
    slides = slides_of(record)
    if slides:
        found.append(("slides", f"before step {', '.join(map(str, slides))}"))
    return [(name, written_out(value)) for name, value in found]


def slides_of(record: Record) -> list[int]:
    """The steps before which the context slid."""
    return sorted({*(step.step for step in record.steps if step.slid is not None)} | _tree_slides(record))


def _tree_slides(record: Record) -> set[int]:
    return {node.length for node in record.tree if node.slid is not None}


def _options(options: Mapping[str, Any]) -> str:
    shown = (name for name in options if name not in _OF_THE_MODEL)
    return "  ".join(f"{name}={_value(options[name])}" for name in shown)


def _value(value: Any) -> str:
    shown = str(value)
    return shown if len(shown) <= _LONGEST_VALUE else f"{shown[: _LONGEST_VALUE - 1]}…"


def written_out(text: str) -> str:
    """Text with line ends, control characters and unusual spaces as Python escapes."""
    return visible(text, 0)[1:-1]
