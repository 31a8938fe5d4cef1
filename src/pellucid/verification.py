"""Verification: replays results that others published of a model, and compares them with the loaded model's."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np

from pellucid.decoding.options import GenerationOptions
from pellucid.decoding.results import Generation
from pellucid.decoding.sequence import check_prompts
from pellucid.engine import FloatArray
from pellucid.errors import OptionError, PellucidError, TokenizerError
from pellucid.language_model import LanguageModel

if TYPE_CHECKING:
    from torch import Tensor

# The rounding error of a percentage with two decimals, plus 1e-4 for float32 sums.
_PRINTED_PERCENTAGE = 0.005 + 1e-4


@dataclass(frozen=True)
class Check:
    """The comparison of one published result with the loaded model's. source: where it was published."""

    name: str
    expected: str
    got: str
    passed: bool
    source: str
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Fact(Protocol):
    """A published result that can be replayed. `kind` is its type's name in the JSON files."""

    kind: ClassVar[str]

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def note(self) -> str | None: ...
    def replay(self, lm: LanguageModel) -> Iterator[Check]: ...


@dataclass(frozen=True)
class ParameterCount:
    """The number of distinct parameters."""

    name: str
    expected: int
    source: str
    note: str | None = None
    kind: ClassVar[str] = "parameters"

    def replay(self, lm: LanguageModel) -> Iterator[Check]:
        got = sum(parameter.numel() for parameter in lm.model.parameters())
        yield Check(self.name, f"{self.expected:,}", f"{got:,}", got == self.expected, self.source, self.note)


@dataclass(frozen=True)
class NextTokens:
    """The likeliest next tokens of several texts in one batch: for each text (token, percentage), likeliest first.

    The batch is padded on the left with eos and run by a bare forward pass, which numbers positions from 0 regardless
    of the padding. Percentages must agree to their two printed decimals. The published table omits the leading spaces
    of tokens, so spaces around a token are ignored.
    """

    name: str
    texts: Sequence[str]
    rows: Sequence[Sequence[tuple[str, float]]]
    source: str
    note: str | None = None
    kind: ClassVar[str] = "next_tokens"

    def replay(self, lm: LanguageModel) -> Iterator[Check]:
        from pellucid.decoding.results import likeliest
        from pellucid.logits import softmax

        for text, expected, logits in zip(self.texts, self.rows, _padded_logits(lm, self.texts), strict=True):
            probabilities = softmax(logits)
            got = [
                (lm.tokenizer.decode(token).strip(" "), 100 * float(probabilities[token]))
                for token in likeliest(logits, len(expected))
            ]
            passed = len(got) == len(expected) and all(
                token == published.strip(" ") and abs(percentage - recorded) <= _PRINTED_PERCENTAGE
                for (token, percentage), (published, recorded) in zip(got, expected, strict=True)
            )
            name = f"{self.name}: {text!r}"
            yield Check(name, _percentages(expected), _percentages(got), passed, self.source, self.note)


@dataclass(frozen=True)
class Continuation:
    """The result of greedy decoding or beam search: the text or the ids of prompt and continuation."""

    name: str
    prompt: str
    max_new_tokens: int
    source: str
    num_beams: int = 1
    expected_text: str | None = None
    expected_ids: Sequence[int] | None = None
    note: str | None = None
    kind: ClassVar[str] = "continuation"

    def replay(self, lm: LanguageModel) -> Iterator[Check]:
        got = lm.generate(self.prompt, max_new_tokens=self.max_new_tokens, num_beams=self.num_beams)
        assert isinstance(got, Generation)
        passed = True
        expected = self.expected_text or ""
        if self.expected_ids is not None:
            expected = self.expected_text or lm.tokenizer.decode(list(self.expected_ids))
            passed = got.ids == list(self.expected_ids)
        if self.expected_text is not None:
            passed = passed and got.text == self.expected_text
        yield Check(f"{self.name}: {self.prompt!r}", expected, got.text or "", passed, self.source, self.note)


@dataclass(frozen=True)
class LogitRows:
    """The first or last elements of three rows of logits: at the prompt's first and last positions, and after the
    likeliest next token, which is appended in a cached step. They must agree within the relative tolerance `rtol`."""

    name: str
    prompt: str
    rtol: float
    first_row_first: Sequence[float]
    last_row_last: Sequence[float]
    next_row_first: Sequence[float]
    next_row_last: Sequence[float]
    source: str
    note: str | None = None
    kind: ClassVar[str] = "logits"

    def replay(self, lm: LanguageModel) -> Iterator[Check]:
        ids = lm.tokenizer.encode(self.prompt)
        engine = lm.engine
        check_prompts(engine, [ids], GenerationOptions(max_new_tokens=2))
        slot = engine.open()
        try:
            rows = engine.step([slot], [ids], all_positions=True).logits  # [seq, vocab]
            after = engine.step([slot], [[int(rows[-1].argmax())]]).logits[0]  # [vocab]
        finally:
            engine.drop(slot)
        ends = (
            ("first row, first", self.first_row_first, rows[0][: len(self.first_row_first)]),
            ("last row, last", self.last_row_last, rows[-1][-len(self.last_row_last) :]),
            ("next row, first", self.next_row_first, after[: len(self.next_row_first)]),
            ("next row, last", self.next_row_last, after[-len(self.next_row_last) :]),
        )
        for which, expected, got in ends:
            published = np.asarray(expected, dtype=np.float64)
            difference = float(np.max(np.abs(got - published) / np.abs(published)))
            yield Check(
                f"{self.name} of {self.prompt!r}: {which} {len(expected)}",
                f"{_numbers(expected)} (within {self.rtol:.2%})",
                f"{_numbers(got)} (off by {100 * difference:.1g}%)",
                difference <= self.rtol,
                self.source,
                self.note,
            )


@dataclass(frozen=True)
class Loss:
    """The mean next-token cross-entropy (nats) over several batches of `batch` = (rows, length) tokens.

    The inputs of batch k begin at token k * rows * length; the targets are shifted by one.
    """

    name: str
    tokens: Sequence[int]
    batch: tuple[int, int]
    batches: int
    expected: float
    tolerance: float
    source: str
    note: str | None = None
    kind: ClassVar[str] = "loss"

    def replay(self, lm: LanguageModel) -> Iterator[Check]:
        import torch

        check_prompts(lm.engine, [list(self.tokens)[: self.batch[1]]], GenerationOptions(max_new_tokens=1))
        with torch.inference_mode():
            losses = [
                float(_cross_entropy(lm.model, *_batch(lm, self.tokens, self.batch, k))) for k in range(self.batches)
            ]
        yield _close(self.name, self.expected, sum(losses) / len(losses), self.tolerance, self)


@dataclass(frozen=True)
class Training:
    """The losses of AdamW steps on one batch, each before its step. Weight decay applies to all parameters. Trains a
    copy of the model."""

    name: str
    tokens: Sequence[int]
    batch: tuple[int, int]
    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    expected: Sequence[float]
    tolerance: float
    source: str
    note: str | None = None
    kind: ClassVar[str] = "training"

    def replay(self, lm: LanguageModel) -> Iterator[Check]:
        import torch

        check_prompts(lm.engine, [list(self.tokens)[: self.batch[1]]], GenerationOptions(max_new_tokens=1))
        model = copy.deepcopy(lm.model).float().requires_grad_()
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay
        )
        inputs, targets = _batch(lm, self.tokens, self.batch, 0)
        for step, expected in enumerate(self.expected):
            optimizer.zero_grad()
            # eval() turns dropout off, as in the published run.
            loss = _cross_entropy(model.eval(), inputs, targets)
            yield _close(f"{self.name}, loss at step {step}", expected, loss.item(), self.tolerance, self)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


_FACTS: Mapping[str, Any] = {
    fact.kind: fact for fact in (ParameterCount, NextTokens, Continuation, LogitRows, Loss, Training)
}


@dataclass(frozen=True)
class PublishedResults:
    """The published results of one model."""

    name: str
    facts: tuple[Fact, ...]

    @classmethod
    def from_dict(cls, contents: Mapping[str, Any]) -> Self:
        """Build from the contents of a JSON file. Each fact has a `kind`; its `tokens` names one of the file's token
        lists. Raises `OptionError` for an unknown kind."""
        facts = []
        for fields in contents["facts"]:
            fields = dict(fields)
            kind = fields.pop("kind")
            if kind not in _FACTS:
                raise OptionError(f"published results of {contents['name']}: {kind!r} is not a kind of fact")
            if "tokens" in fields:
                fields["tokens"] = contents["tokens"][fields["tokens"]]
            facts.append(_FACTS[kind](**fields))
        return cls(contents["name"], tuple(facts))


def published_names() -> tuple[str, ...]:
    """The models with published results in the package."""
    return tuple(sorted(path.stem for path in _folder().glob("*.json")))


def published_results(name: str) -> PublishedResults:
    """The published results of a model. Raises `OptionError` for a name that is not in `published_names`."""
    if name not in published_names():
        raise OptionError(f"there are no published results for {name!r}, only for {', '.join(published_names())}")
    return PublishedResults.from_dict(json.loads((_folder() / f"{name}.json").read_text(encoding="utf-8")))


def verify(lm: LanguageModel, results: PublishedResults, *, training: bool = False) -> Iterator[Check]:
    """Replay published results one by one and yield their checks.

    training: also replay training steps, on a copy of the model. This is slow, and takes about 3.5 GB of memory for
        124M parameters.

    A result that the model cannot compute, for example because it has too few positions, is a failed check.
    """
    for fact in results.facts:
        if isinstance(fact, Training) and not training:
            continue
        try:
            yield from fact.replay(lm)
        except PellucidError as error:
            yield Check(fact.name, "a result", f"error: {error}", False, fact.source, fact.note)


def _folder() -> Path:
    return Path(__file__).parent / "assets" / "published"


def _close(name: str, expected: float, got: float, tolerance: float, fact: Fact) -> Check:
    passed = abs(got - expected) <= tolerance
    return Check(name, f"{expected:.6f} (within {tolerance:g})", f"{got:.6f}", passed, fact.source, fact.note)


def _padded_logits(lm: LanguageModel, texts: Sequence[str]) -> FloatArray:
    """The last position's logits [texts, vocab] of left-padded texts, from a bare forward pass."""
    import torch

    eos = lm.tokenizer.eos_token_id
    if eos is None:
        raise TokenizerError("padding needs an eos token, and this tokenizer has none")
    rows = [lm.tokenizer.encode(text) for text in texts]
    width = max(map(len, rows))
    check_prompts(lm.engine, [[eos] * (width - len(row)) + row for row in rows], GenerationOptions(max_new_tokens=1))
    device = next(lm.model.parameters()).device
    ids = torch.tensor([[eos] * (width - len(row)) + row for row in rows], device=device)  # [texts, width]
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    with torch.inference_mode():
        logits = lm.model(input_ids=ids, attention_mask=mask).logits
    last: FloatArray = logits[:, -1].float().cpu().numpy()
    return last


def _batch(lm: LanguageModel, tokens: Sequence[int], shape: tuple[int, int], number: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets, each [rows, length], of one batch."""
    import torch

    size = shape[0] * shape[1]
    device = next(lm.model.parameters()).device
    window = torch.tensor(tokens[number * size : (number + 1) * size + 1], device=device)
    return window[:-1].view(*shape), window[1:].view(*shape)


def _cross_entropy(model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
    import torch

    logits = model(input_ids=inputs).logits.float()  # [rows, length, vocab]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _percentages(row: Sequence[tuple[str, float]]) -> str:
    return "  ".join(f"{token} {percentage:.2f}%" for token, percentage in row)


def _numbers(values: Sequence[float] | FloatArray) -> str:
    return f"{values[0]:.4f} … {values[-1]:.4f}"
