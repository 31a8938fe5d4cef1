"""Indirect-object identification: how a model knows that after "When Mary and John went to the store, John gave a drink
to" comes " Mary".

    python examples/indirect_object.py                  # on gpt2, where its weights are
    python examples/indirect_object.py --model demo     # the same measurements on the bundled model, which is too small

The task and the circuit in GPT-2 small are those of Wang et al., "Interpretability in the Wild" (2022): heads in the
middle layers notice which name stands twice, heads after them keep the last position from looking at it, and "name
movers" (9.9, 9.6 and 10.0 in the paper) copy the other name to the output, against "negative" ones (10.7, 11.10). The
script finds such heads by four measurements, without being told where they are. What it prints depends on the model:
read it beside the paper's circuit.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import numpy as np
import rich

import pellucid
from pellucid import LanguageModel, PellucidError
from pellucid.lens.results import LogitAttribution, PatchingSweep

TEMPLATES = (
    "When {io} and {s} went to the store, {again} gave a drink to",
    "After {io} and {s} sat down in the garden, {again} gave a book to",
    "Then {io} and {s} had a long talk. In the end {again} said goodbye to",
    "While {io} and {s} were at the house, {again} gave a ring to",
)
# Each is one token with a space before it.
NAMES = (("Mary", "John"), ("Tom", "Anna"), ("Jack", "Rose"), ("Sarah", "Peter"))


@dataclass(frozen=True)
class Prompt:
    """A text that ends before the indirect object's name; the subject's stands in it twice.

    corrupted: the same text in which the other name stands twice, so that the answer is the other one.
    """

    text: str
    corrupted: str
    answer: str
    other: str


@dataclass(frozen=True)
class Head:
    """A head and what it adds to the answer's logit less the other name's: the mean over the prompts."""

    layer: int
    head: int
    value: float

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head} {self.value:+.2f}"


@dataclass(frozen=True)
class Findings:
    """What was measured, by the order of the sections that print it.

    difference: the answer's logit less the other name's, mean over the prompts; right: the share of prompts where it is
    above 0. attribution: of the first prompt. movers, against: the heads that add most to the difference, and that take
    most from it. looks: how much of its attention each mover pays to the answer's name from the last position, and to
    the other's first place. stream, heads: sweeps over the first prompt. ablated: the difference without the movers.
    """

    difference: float
    right: float
    attribution: LogitAttribution
    movers: tuple[Head, ...]
    against: tuple[Head, ...]
    looks: dict[str, tuple[float, float]]
    stream: PatchingSweep
    heads: PatchingSweep
    ablated: float


def prompts(count: int) -> list[Prompt]:
    """So many prompts, over templates, names and which of them is the answer."""
    return [
        Prompt(template.format(io=io, s=s, again=s), template.format(io=io, s=s, again=io), f" {io}", f" {s}")
        for template in TEMPLATES
        for pair in NAMES
        for io, s in (pair, pair[::-1])
    ][:count]


def differences(lm: LanguageModel, asked: list[Prompt]) -> list[float]:
    """The answer's logit less the other name's after each prompt."""
    found = []
    for prompt in asked:
        last = lm.trace(prompt.text, "logits")["logits"][0, -1]  # [vocab]
        found.append(float(last[lm.token_id(prompt.answer)] - last[lm.token_id(prompt.other)]))
    return found


def explore(lm: LanguageModel, count: int = 16, strongest: int = 3, progress: bool | None = None) -> Findings:
    """Measure on so many prompts, taking so many heads for movers."""
    asked = prompts(count)
    before = differences(lm, asked)

    parts = []
    for prompt in asked:
        trace = lm.trace(prompt.text, ["embed", "pos_embed", "attn.z", "mlp.out", "resid_post"])
        parts.append(trace.logit_attribution(prompt.answer, against=prompt.other))
    by_head = np.mean([one.heads for one in parts], axis=0)  # [layer, head]
    order = [divmod(int(place), by_head.shape[1]) for place in np.argsort(-by_head, axis=None)]
    ranked = [Head(layer, head, float(by_head[layer, head])) for layer, head in order]
    movers = tuple(ranked[:strongest])

    first = asked[0]
    metric = (first.answer, first.other)
    with lm.ablated([(mover.layer, mover.head) for mover in movers], "mean", [prompt.corrupted for prompt in asked]):
        without = differences(lm, asked)
    return Findings(
        difference=float(np.mean(before)),
        right=float(np.mean([value > 0 for value in before])),
        attribution=parts[0],
        movers=movers,
        against=tuple(reversed(ranked[-strongest:])),
        looks={f"L{mover.layer}H{mover.head}": looks(lm, first, mover) for mover in movers},
        stream=lm.patch(first.text, first.corrupted, metric, "resid_pre", progress=progress),
        heads=lm.patch(first.text, first.corrupted, metric, "head", progress=progress),
        ablated=float(np.mean(without)),
    )


def looks(lm: LanguageModel, prompt: Prompt, head: Head) -> tuple[float, float]:
    """How much attention a head pays, from the last position, to the answer's name and to the other's first place."""
    trace = lm.trace(prompt.text, f"blocks.{head.layer}.attn.pattern")
    pattern = trace.attention(head.layer, head.head).of(head.layer, head.head)[-1]  # [key]
    places = [trace.ids.index(lm.token_id(name)) for name in (prompt.answer, prompt.other)]
    return float(pattern[places[0]]), float(pattern[places[1]])


def show(lm: LanguageModel, found: Findings, count: int) -> None:
    print(f"The answer's logit less the other name's, over {count} prompts: {found.difference:+.2f}")
    print(f"The answer is the likelier name in {found.right:.0%} of them (50% would be chance).\n")
    print("Heads that add most to it directly:  ", ", ".join(map(str, found.movers)))
    print("Heads that take most from it:        ", ", ".join(map(str, found.against)))
    for name, (answer, other) in found.looks.items():
        print(f"  {name} looks at the answer's name with {answer:.0%} of its attention, at the other with {other:.0%}")
    print(f"With those {len(found.movers)} heads replaced by their mean: {found.ablated:+.2f}\n")
    for result in (found.attribution, found.stream, found.heads):
        rich.print(result)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Find the heads that tell the indirect object.")
    parser.add_argument("--model", default="gpt2", help="a name, folder or file that pellucid.load takes")
    parser.add_argument("--prompts", type=int, default=16, help="how many prompts to average over, 32 at most")
    options = parser.parse_args(arguments)
    try:
        lm = pellucid.load(options.model)
    except PellucidError as error:
        print(f"{options.model} cannot be loaded: {error}", file=sys.stderr)
        print(f"Its weights are needed here; `pellucid pull {options.model}` downloads them.", file=sys.stderr)
        print("`--model demo` measures the bundled model instead, which is too small for this task.", file=sys.stderr)
        return 1
    show(lm, explore(lm, options.prompts), options.prompts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
