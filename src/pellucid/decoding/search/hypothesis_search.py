"""Base of the beam searches: score continuations, select the best, record the tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pellucid.decoding.pipeline import Candidates, Pipeline
from pellucid.decoding.records.recording import TreeRecorder
from pellucid.decoding.search.hypotheses import Beam, Candidate, Finished
from pellucid.decoding.task import DecodingTask
from pellucid.engine import FloatArray
from pellucid.logits import largest


@dataclass(frozen=True, eq=False)
class Continuations:
    """The continuations of the `parent`-th beam.

    scored: the score that ranks each continuation. own: log-probabilities (nats) under the model alone [vocab].
    """

    parent: int
    scored: Candidates
    own: FloatArray


class HypothesisSearch:
    """The search for one prompt. Base class; subclasses choose the survivors and the stop rule.

    beams: the running hypotheses, at first one that holds the prompt. step: how many new tokens they have.
    """

    def __init__(self, task: DecodingTask, prompt: int, root: Beam) -> None:
        self.options = task.options
        self.chooser = task.chooser
        self.stopping = task.stopping
        self.tree: TreeRecorder | None = None if task.recorder is None else task.recorder.tree(prompt)
        self.beams = [root]
        self.step = 0

    def log_probabilities(self, logits: FloatArray) -> list[FloatArray]:
        """The model's own log-probabilities [vocab] for each beam."""
        return [self.chooser.usable(row).logprobs() for row in logits]

    def continuations(self, parent: int, own: FloatArray, pipeline: Pipeline) -> Continuations:
        """Score the continuations of a beam: processed log-probabilities plus the beam's score."""
        beam = self.beams[parent]
        watched = None if self.tree is None else self.tree.watch(own)
        processed = pipeline(beam.history, own, None if watched is None else watched.observe)
        if self.tree is not None and watched is not None and self.tree.nodes[beam.node].expansion is None:
            self.tree.expanded(beam.node, watched)
        with np.errstate(over="ignore"):  # a score below all float32 numbers is -inf
            scored = processed.logits + beam.score
        return Continuations(parent, Candidates(scored, processed.ids), own)

    def best(self, continuations: Sequence[Continuations], beams: int) -> list[Candidate]:
        """The best continuations, best first: enough that `beams` remain even if as many end by each eos."""
        return self.candidates(continuations, _best_places(continuations, self.enough(beams)))

    def enough(self, beams: int) -> int:
        """How many continuations to keep so that `beams` of them do not end."""
        return max(2, 1 + len(self.options.eos_token_id)) * beams

    def candidates(self, continuations: Sequence[Continuations], places: Sequence[int]) -> list[Candidate]:
        """The continuations at some places of the concatenated scores, without those at -inf."""
        starts = np.cumsum([0, *(len(part.scored.logits) for part in continuations)])
        found = []
        for place in places:
            number = int(np.searchsorted(starts, place, side="right")) - 1
            part = continuations[number]
            within = int(place - starts[number])
            if part.scored.logits[within] > -np.inf:
                found.append(self.candidate(part, part.scored.token(within), part.scored.logits[within]))
        return found

    def candidate(self, continuations: Continuations, token: int, score: np.float32) -> Candidate:
        beam, own = self.beams[continuations.parent], continuations.own
        history = beam.history.extended(token)
        reason = self.stopping.reason(history, own)
        logprob = beam.logprob + float(own[token])
        return Candidate(continuations.parent, token, np.float32(score), logprob, history, reason)

    def finish(self, candidate: Candidate, score: float) -> Finished:
        """A finished hypothesis, with its length-normalised score."""
        reason = candidate.finish_reason or "length"
        if self.tree is not None and candidate.node is not None:
            facts = {"final_score": score, "finish_reason": reason}
            self.tree.ended(candidate.node, self.step, "finished", **facts)
        return Finished(candidate.history.new_ids.tolist(), candidate.logprob, score, reason, candidate.node)

    def record_births(self, candidates: Sequence[Candidate], group: int = 0) -> None:
        if self.tree is not None:
            for candidate in candidates:
                parent = self.beams[candidate.parent].node
                candidate.node = self.tree.born(parent, candidate.token, float(candidate.score), group)

    def record_displaced(self, hypotheses: Sequence[Finished]) -> None:
        for hypothesis in hypotheses:
            if self.tree is not None and hypothesis.node is not None:
                self.tree.ended(hypothesis.node, self.step, "displaced")

    def record_cuts(self, last: Sequence[Candidate]) -> None:
        """Record as cut the beams without survivors, and the `last` candidates of a search that ends."""
        if self.tree is not None:
            nodes = [beam.node for beam in self.beams] + [one.node for one in last if one.node is not None]
            for node in nodes:
                if self.tree.nodes[node].fate == "running":
                    self.tree.ended(node, self.step, "cut")


def _best_places(continuations: Sequence[Continuations], count: int) -> list[int]:
    """Places of the `count` best scores, best first; ties go to the earlier beam, then to the lower id."""
    start, places, scores = 0, [], []
    for part in continuations:
        best = np.sort(largest(part.scored.logits, count))
        places.append(start + best)
        scores.append(part.scored.logits[best])
        start += len(part.scored.logits)
    together = np.concatenate(places)
    order = largest(np.concatenate(scores), count)
    return [int(place) for place in together[order]]
