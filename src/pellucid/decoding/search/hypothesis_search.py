"""What all beam searches do alike: score what may follow their beams, find the best of it, record the tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pellucid.decoding.distribution import largest
from pellucid.decoding.pipeline import Candidates, Pipeline
from pellucid.decoding.records.recording import TreeRecorder
from pellucid.decoding.search.hypotheses import Beam, Candidate, Finished
from pellucid.decoding.task import DecodingTask
from pellucid.engine import FloatArray


@dataclass(frozen=True, eq=False)
class Continuations:
    """What may follow the `parent`-th beam.

    scored: of each continuation, the score that it is ranked by. own: their log-probabilities (nats) under the
    model alone [vocab].
    """

    parent: int
    scored: Candidates
    own: FloatArray


class HypothesisSearch:
    """The search for one prompt, but for which hypotheses run on and when it ends.

    beams: the running ones; at first one that holds the prompt. step: how many tokens they have.
    """

    def __init__(self, task: DecodingTask, prompt: int, root: Beam) -> None:
        self.options = task.options
        self.chooser = task.chooser
        self.stopping = task.stopping
        self.tree: TreeRecorder | None = None if task.recorder is None else task.recorder.tree(prompt)
        self.beams = [root]
        self.step = 0

    def log_probabilities(self, logits: FloatArray) -> list[FloatArray]:
        """Of every beam, from its logits: what the model alone says of the next token [vocab]."""
        return [self.chooser.usable(row).logprobs() for row in logits]

    def continuations(self, parent: int, own: FloatArray, pipeline: Pipeline) -> Continuations:
        """Score all that may follow a beam: log-probabilities as the pipeline leaves them, and the beam's score."""
        beam = self.beams[parent]
        watched = None if self.tree is None else self.tree.watch(own)
        processed = pipeline(beam.history, own, None if watched is None else watched.observe)
        if self.tree is not None and watched is not None and self.tree.nodes[beam.node].expansion is None:
            self.tree.expanded(beam.node, watched)
        with np.errstate(over="ignore"):  # a score below all float32 numbers is -inf
            scored = processed.logits + beam.score
        return Continuations(parent, Candidates(scored, processed.ids), own)

    def best(self, continuations: Sequence[Continuations], beams: int) -> list[Candidate]:
        """The best of all continuations, best first: enough that `beams` can run on even if as many end by each eos."""
        return self.candidates(continuations, _best_places(continuations, self.enough(beams)))

    def enough(self, beams: int) -> int:
        """How many continuations to look at, so that so many beams can run on."""
        return max(2, 1 + len(self.options.eos_token_id)) * beams

    def candidates(self, continuations: Sequence[Continuations], places: Sequence[int]) -> list[Candidate]:
        """The continuations at some places of all scores, one beam's after another's; impossible ones left out."""
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
        """A hypothesis that goes no further, with its length-normalised score."""
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
        """Beams that nothing continues are cut, and so are candidates that are the `last` of their kind."""
        if self.tree is not None:
            nodes = [beam.node for beam in self.beams] + [one.node for one in last if one.node is not None]
            for node in nodes:
                if self.tree.nodes[node].fate == "running":
                    self.tree.ended(node, self.step, "cut")


def _best_places(continuations: Sequence[Continuations], count: int) -> list[int]:
    """Places of the `count` best scores, best first; among equals the earlier beam's, then the lower id."""
    start, places, scores = 0, [], []
    for part in continuations:
        best = np.sort(largest(part.scored.logits, count))
        places.append(start + best)
        scores.append(part.scored.logits[best])
        start += len(part.scored.logits)
    together = np.concatenate(places)
    order = largest(np.concatenate(scores), count)
    return [int(place) for place in together[order]]
