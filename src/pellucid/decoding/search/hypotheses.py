"""The parts that beam searches share: beams, finished hypotheses, and the loop that steps several searches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pellucid.decoding.history import TokenHistory
from pellucid.decoding.reading import SlottedSequence, read
from pellucid.decoding.records.recording import TreeRecorder
from pellucid.decoding.sequence import GeneratedSequence, Run
from pellucid.decoding.stopping import FinishReason
from pellucid.decoding.task import DecodingTask
from pellucid.engine import Engine, FloatArray, Slot
from pellucid.errors import DecodingError

ZERO = np.float32(0)


@dataclass(eq=False)
class Beam:
    """A running hypothesis: its slot in the engine, its tokens, the score it is ranked by, the sum of its
    tokens' log-probabilities under the model's own distribution, and its place in the record's tree."""

    slot: Slot
    history: TokenHistory
    score: np.float32 = ZERO
    logprob: float = 0.0
    node: int = 0
    search: int = 0


@dataclass(eq=False)
class Candidate:
    """A running hypothesis (the `parent`-th beam) and one more token; with `finish_reason` it runs no further.

    node: its place in the record's tree, once it has one.
    """

    parent: int
    token: int
    score: np.float32
    logprob: float
    history: TokenHistory
    finish_reason: FinishReason | None
    node: int | None = None


@dataclass(frozen=True, eq=False)
class Finished:
    """A hypothesis that ended, and the length-normalised score it is ranked by."""

    new_ids: list[int]
    logprob: float
    score: float
    finish_reason: FinishReason
    node: int | None = None


def normalised(score: np.float32, length: int, penalty: float) -> float:
    """score / length ** penalty, by which hypotheses of different length are compared: in float32, as Transformers 5.23
    computes it, or in float64 where float32 cannot hold it."""
    divisor = length**penalty
    with np.errstate(all="ignore"):
        divided = score / np.float32(divisor)
        held = bool(np.isfinite(divided)) and 0 < np.float32(divisor) < np.inf
    return float(divided) if held else float(score) / divisor


class FinishedHypotheses:
    """The best `capacity` finished hypotheses, best first; ties go to the earlier one."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.best: list[Finished] = []

    @property
    def full(self) -> bool:
        return len(self.best) == self._capacity

    @property
    def worst_score(self) -> float:
        return self.best[-1].score

    def add(self, added: Sequence[Finished]) -> list[Finished]:
        """Rank new hypotheses among the others, and return those that fall out, new or old."""
        ranked = sorted([*self.best, *added], key=lambda hypothesis: -hypothesis.score)
        self.best = ranked[: self._capacity]
        return ranked[self._capacity :]


class Search(Protocol):
    """The search for one prompt. `advance` takes a step from the logits [beams, vocab] of its beams and returns the
    candidates that run on, none once the search is done."""

    beams: list[Beam]
    tree: TreeRecorder | None

    def advance(self, logits: FloatArray) -> list[Candidate]: ...

    def results(self) -> list[Finished]:
        """The hypotheses to return, best first."""


def run_searches(task: DecodingTask, make: Callable[[DecodingTask, int, Beam], Search]) -> Run:
    """Search all prompts in shared engine steps; returns the num_return_sequences best of each, prompt by prompt.

    make: a search, of (task, prompt number, the beam that holds the prompt).
    """
    engine, slide = task.engine, task.options.context == "slide"
    opened = [task.open(prompt) for prompt in range(len(task.prompts))]
    roots = [
        Beam(slot, TokenHistory(task.prompts[prompt], prompt), search=prompt) for prompt, (slot, _) in enumerate(opened)
    ]
    searches = [make(task, prompt, root) for prompt, root in enumerate(roots)]

    def slid(sequence: SlottedSequence, kept: int) -> None:
        if isinstance(sequence, Beam) and (tree := searches[sequence.search].tree) is not None:
            tree.slid(sequence.node, kept)

    try:
        logits = read(engine, roots, [unread for _, unread in opened], slide=slide, slid=slid).logits
        running = list(searches)
        while running:
            start = 0
            for search in running:
                count = len(search.beams)
                survivors = search.advance(logits[start : start + count])
                search.beams = _move(engine, search.beams, survivors)
                start += count
            yield ()
            running = [search for search in running if search.beams]
            if running:
                beams = [beam for search in running for beam in search.beams]
                newest = [[beam.history.newest] for beam in beams]
                logits = read(engine, beams, newest, slide=slide, slid=slid).logits
    finally:
        for beam in (beam for search in searches for beam in search.beams):
            engine.drop(beam.slot)
    return [
        GeneratedSequence(prompt, best.new_ids, best.logprob, best.finish_reason, score=best.score)
        for prompt, search in enumerate(searches)
        for best in _returned(task, prompt, search)
    ]


def _returned(task: DecodingTask, prompt: int, search: Search) -> list[Finished]:
    results = search.results()[: task.options.num_return_sequences]
    if not results:
        raise DecodingError(f"no hypothesis of prompt {prompt} came to an end: the options exclude every token")
    if task.recorder is not None and search.tree is not None:
        nodes = [result.node for result in results if result.node is not None]
        for rank, node in enumerate(nodes):
            search.tree.returned(node, rank)
        task.recorder.returned[prompt] = nodes
    return results


def _move(engine: Engine, beams: Sequence[Beam], survivors: Sequence[Candidate]) -> list[Beam]:
    """Give every survivor a slot: the first child takes its parent's, the others fork it. Slots without a child are
    dropped."""
    unused = {beam.slot for beam in beams}
    children = []
    for survivor in survivors:
        parent = beams[survivor.parent]
        slot = parent.slot
        if slot in unused:
            unused.discard(slot)
        else:
            slot = engine.fork(slot)
        children.append(
            Beam(slot, survivor.history, survivor.score, survivor.logprob, survivor.node or 0, parent.search)
        )
    for slot in unused:
        engine.drop(slot)
    return children
