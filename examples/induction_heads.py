"""Induction heads: train a small GPT-2 in which they form, find them, and see what they carry.

    python examples/induction_heads.py                  # trains for less than a minute on two cores, then measures
    python examples/induction_heads.py --save FOLDER    # and keeps the model, which pellucid.load(FOLDER) opens

An induction head completes "A B ... A" with "B": it looks at what followed the current token before. It takes two
layers: a head of the first tells each position which token stands before it, and a head of the second looks for the
position before which the current token stood (Elhage et al., 2021; Olsson et al., "In-context Learning and Induction
Heads", 2022). A model of 13 million parameters trained on tales, such as the bundled demo, has hardly any. So this one
is trained on texts in which nothing else helps: pairs of made-up tokens that come back, between tokens that do not.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rich
import torch
from rich.console import Console
from rich.progress import track

import pellucid
from pellucid import GPT2Config, GPT2LMHeadModel, LanguageModel
from pellucid.lens.instruments.head_scores import repeated_tokens
from pellucid.lens.results import HeadScores, RankedHead

TEXT_LENGTH, TOKENS, PAIRS = 32, 64, 4
STEPS, BATCH, LEARNING_RATE = 600, 32, 0.005
IGNORED = -100  # a label that the loss leaves out

# Two layers. The MLPs are small, and the head's weight is its own: attention has to do the work.
CONFIG = GPT2Config(
    vocab_size=TOKENS,
    n_positions=TEXT_LENGTH,
    n_embd=64,
    n_layer=2,
    n_head=4,
    n_inner=4,
    initializer_range=0.1,
    tie_word_embeddings=False,
    embd_pdrop=0.0,
    resid_pdrop=0.0,
    attn_pdrop=0.0,
    bos_token_id=0,
    eos_token_id=0,
)


def pairs_that_come_back(source: random.Random) -> tuple[list[int], list[int]]:
    """A text of pairs, drawn from a few that are its own, with fresh tokens between them; and its labels: the second
    token of each pair that stood before, the only ones that can be known."""
    tokens = source.sample(range(TOKENS), TOKENS)
    pairs = [(tokens.pop(), tokens.pop()) for _ in range(PAIRS)]
    ids, labels, seen = [], [], set()
    while len(ids) < TEXT_LENGTH:
        if source.random() < 0.3:
            ids.append(tokens.pop())
            labels.append(IGNORED)
            continue
        pair = source.choice(pairs)
        ids += pair
        labels += [IGNORED, pair[1] if pair in seen else IGNORED]
        seen.add(pair)
    return ids[:TEXT_LENGTH], labels[:TEXT_LENGTH]


def train(seed: int = 2, steps: int = STEPS) -> GPT2LMHeadModel:
    """A model trained on such texts."""
    torch.manual_seed(seed)
    source = random.Random(seed)
    model = GPT2LMHeadModel(CONFIG).train()
    with torch.no_grad():
        # Neighbouring positions start alike, as they end up in GPT-2: what stands "before" is then soon learned.
        noise = 0.2 * torch.randn(TEXT_LENGTH + 1, CONFIG.n_embd)
        model.transformer.wpe.weight.copy_(noise[1:] + noise[:-1])
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98))
    for step in track(range(steps), "training", console=Console(stderr=True), transient=True):
        rate = LEARNING_RATE * min(1, (step + 1) / 20, (steps - step) / (0.2 * steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        ids, labels = zip(*(pairs_that_come_back(source) for _ in range(BATCH)), strict=True)
        loss = model(input_ids=torch.tensor(ids), labels=torch.tensor(labels), use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@dataclass(frozen=True)
class Findings:
    """What was found in a model.

    induction, previous_token: scores of all heads on random tokens that repeat. induction_heads, previous_token_heads:
    those above the threshold. others: the heads that are neither.
    losses: nats a token on such texts, by what was silenced: over the first time the tokens stand, and the second.
    """

    induction: HeadScores
    previous_token: HeadScores
    induction_heads: tuple[RankedHead, ...]
    previous_token_heads: tuple[RankedHead, ...]
    others: tuple[RankedHead, ...]
    losses: dict[str, tuple[float, float]]


def explore(lm: LanguageModel, threshold: float = 0.4, texts: int = 16, seed: int = 0) -> Findings:
    """Find the induction heads and measure what they carry, on texts the model was not trained on: random tokens, all
    of them twice in the same order."""
    half = lm.config.n_positions // 2
    induction = lm.induction_scores(seq_len=half, rows=texts, seed=seed)
    previous = lm.previous_token_scores(seq_len=half, rows=texts, seed=seed)
    found, before = induction.above(threshold), previous.above(threshold)
    taken = {(head.layer, head.head) for head in (*found, *before)}
    others = tuple(head for head in induction.ranked() if (head.layer, head.head) not in taken)
    count = min(len(found), len(others))
    chosen = random.Random(seed).sample(others, count)
    rows = repeated_tokens(range(lm.config.vocab_size), half, 2, texts, np.random.default_rng(seed + 1)).tolist()
    silenced: dict[str, Sequence[RankedHead]] = {
        f"{len(found)} induction heads, all there are": found,
        f"{count} induction heads, the strongest": found[:count],
        f"{count} random heads that are neither": chosen,
        f"{len(before)} previous-token heads, all there are": before,
    }
    losses = {"nothing": mean_losses(lm, rows, ())}
    losses |= {name: mean_losses(lm, rows, heads) for name, heads in silenced.items() if heads}
    return Findings(induction, previous, found, before, others, losses)


def mean_losses(lm: LanguageModel, rows: Sequence[list[int]], heads: Sequence[RankedHead]) -> tuple[float, float]:
    """The mean loss over the first and the second half of texts, with heads replaced by their mean over all texts."""
    halves = []
    for row in rows:
        if heads:
            losses = lm.ablate(row, heads, "mean", reference=rows).losses_after
        else:
            losses = np.array([-token.logprob for token in lm.score(row) if token.logprob is not None])
        middle = len(row) // 2
        # The second time's first token cannot be known: nothing says that the text begins again.
        halves.append((losses[: middle - 1].mean(), losses[middle:].mean()))
    first, second = np.mean(halves, axis=0)
    return float(first), float(second)


def show(found: Findings) -> None:
    rich.print(found.previous_token)
    rich.print(found.induction)
    for kind, heads in (("Induction", found.induction_heads), ("Previous-token", found.previous_token_heads)):
        print(f"{kind} heads:", ", ".join(f"{head} {head.score:.2f}" for head in heads) or "none")
    print("\nLoss (nats a token) on random tokens that stand twice, with heads replaced by their mean:\n")
    print(f"{'silenced':42}{'first time':>12}{'second time':>13}")
    for name, (first, second) in found.losses.items():
        print(f"{name:42}{first:12.3f}{second:13.3f}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train a model with induction heads, and find them.")
    parser.add_argument("--save", type=Path, help="a folder to keep the model in")
    parser.add_argument("--seed", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the model is so small that threads would wait for each other
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.save or Path(scratch)
        model = train(options.seed)
        model.save_pretrained(folder)
        show(explore(pellucid.load(folder, engine="torch"), seed=options.seed))


if __name__ == "__main__":
    main()
