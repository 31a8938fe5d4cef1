"""Making a record while a strategy runs. Recorders read what they record, and change nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pellucid.decoding.choosing import Choice
from pellucid.decoding.pipeline import Candidates
from pellucid.decoding.processors import Processor
from pellucid.decoding.records.values import (
    ContrastiveCandidate,
    Distribution,
    Expansion,
    Fate,
    Hypothesis,
    ProcessorEffect,
    Source,
    TokenStep,
)
from pellucid.engine import FloatArray


class ExpansionRecorder:
    """Records the distributions of one step: the model's, and the one after each processor."""

    def __init__(self, logits: FloatArray, *, full: bool) -> None:
        self.logits = logits
        self._full = full
        self._effects: list[ProcessorEffect] = []

    def observe(self, processor: Processor, candidates: Candidates) -> None:
        self._effects.append(ProcessorEffect(processor.label, self._distribution(candidates)))

    def expansion(self) -> Expansion:
        return Expansion(self._distribution(Candidates(self.logits)), tuple(self._effects))

    def _distribution(self, candidates: Candidates) -> Distribution:
        return Distribution.of(candidates.logits, candidates.ids, len(self.logits), full=self._full)


@dataclass
class RowRecorder:
    """Collects the steps of one sequence that is written token by token."""

    full: bool
    draw_key: tuple[int, ...] | None = None
    steps: list[TokenStep] = field(default_factory=list)
    drafted: int = 0
    accepted: int = 0
    _slid: int | None = None

    def slid(self, kept: int) -> None:
        """The slot slid before the next step, and holds `kept` tokens."""
        self._slid = kept

    def watch(self, logits: FloatArray) -> ExpansionRecorder:
        return ExpansionRecorder(logits, full=self.full)

    def chose(
        self,
        watched: ExpansionRecorder,
        choice: Choice,
        source: Source,
        *,
        rejected: int | None = None,
        candidates: Sequence[ContrastiveCandidate] = (),
    ) -> TokenStep:
        """Add the step that ended in a choice."""
        step = TokenStep(
            step=len(self.steps),
            token=choice.token,
            logprob=choice.logprob,
            rank=int((watched.logits > watched.logits[choice.token]).sum()),
            probability=_probability(choice),
            source=source,
            expansion=watched.expansion(),
            uniform=choice.uniform,
            slid=self._slid,
            rejected=rejected,
            candidates=tuple(candidates),
        )
        self._slid = None
        self.steps.append(step)
        return step


def _probability(choice: Choice) -> float:
    """The chosen token's probability among the candidates."""
    candidates = choice.candidates
    place = choice.token if candidates.ids is None else int(np.searchsorted(candidates.ids, choice.token))
    weights = np.exp(candidates.logits - candidates.logits.max())
    return float(weights[place] / weights.sum(dtype=np.float64))


class TreeRecorder:
    """Collects the hypotheses of one beam search."""

    def __init__(self, *, full: bool) -> None:
        self.full = full
        self.nodes: list[Hypothesis] = [Hypothesis(0, None, None, 0, 0.0, "running")]

    def watch(self, logits: FloatArray) -> ExpansionRecorder:
        return ExpansionRecorder(logits, full=self.full)

    def expanded(self, node: int, watched: ExpansionRecorder) -> None:
        """Record the distribution after a hypothesis."""
        self._change(node, expansion=watched.expansion())

    def slid(self, node: int, kept: int) -> None:
        self._change(node, slid=kept)

    def born(self, parent: int, token: int, score: float, group: int = 0) -> int:
        """Add a continuation that got a place on a beam, or finished; returns its number."""
        number = len(self.nodes)
        length = self.nodes[parent].length + 1
        self.nodes.append(Hypothesis(number, parent, token, length, score, "running", group=group))
        if self.nodes[parent].fate != "extended":
            self._change(parent, fate="extended")
        return number

    def ended(self, node: int, step: int, fate: Fate, **facts: Any) -> None:
        """Record the end of a hypothesis. facts: final_score, finish_reason, rank."""
        self._change(node, fate=fate, ended=step, **facts)

    def returned(self, node: int, rank: int) -> None:
        self._change(node, fate="returned", rank=rank)

    def _change(self, node: int, **facts: Any) -> None:
        self.nodes[node] = dataclasses.replace(self.nodes[node], **facts)


@dataclass
class Recorder:
    """The recorders of one call: a row each for sequences written token by token, a tree each for searched
    prompts, filled in by the strategy that runs.

    full: keep whole distributions. returned: of each prompt, the nodes of its results, best first.
    """

    full: bool = False
    rows: dict[int, RowRecorder] = field(default_factory=dict)
    trees: dict[int, TreeRecorder] = field(default_factory=dict)
    returned: dict[int, list[int]] = field(default_factory=dict)

    def row(self, number: int, draw_key: tuple[int, ...] | None) -> RowRecorder:
        return self.rows.setdefault(number, RowRecorder(self.full, draw_key))

    def tree(self, prompt: int) -> TreeRecorder:
        return self.trees.setdefault(prompt, TreeRecorder(full=self.full))
