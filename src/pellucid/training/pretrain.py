"""Pretrain a small GPT-2 on books, tales and short stories.

    python -m pellucid.training.pretrain --data DIR --validation DIR --output FOLDER --minutes 108

The schedule depends on elapsed time, not on the step count: on a busy machine a run makes fewer steps, but always
completes its schedule. An interrupted run resumes from its last checkpoint if it is started again with the same output
folder.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pellucid.errors import CheckpointError, OptionError, PellucidError
from pellucid.reference.model import GPT2LMHeadModel, GPT2Model
from pellucid.tokenizer import GPT2Tokenizer
from pellucid.training.attention import use_training_attention
from pellucid.training.corpus import TokenSet, encode_documents, read_training, read_validation
from pellucid.training.evaluate import evaluate
from pellucid.training.export import export, full_model, read_checkpoint
from pellucid.training.loss import chunked_cross_entropy
from pellucid.training.optimizer import build_optimizers
from pellucid.training.schedule import Recipe, sample_batch
from pellucid.training.vocabulary import Candidates, CompactVocabulary
from pellucid.whole_file import whole_file

EVALUATION_WINDOWS = 16
LOG_SECONDS = 20.0
EVALUATION_SECONDS = 600.0
CHECKPOINT_SECONDS = 300.0

Streams = Mapping[str, NDArray[np.uint16]]


class Pretraining:
    """The state of a run: the model over the compact vocabulary, optimisers, random generators, and progress.

    threads: the number of worker threads; each computes one part of a batch at a time.
    """

    def __init__(self, recipe: Recipe, sets: Mapping[str, TokenSet], threads: int = 1) -> None:
        self.recipe, self.sets = recipe, sets
        counts = np.zeros(recipe.vocab_size, dtype=np.int64)
        for tokens in sets.values():
            counts += np.bincount(tokens.ids, minlength=recipe.vocab_size)
        self.vocabulary = CompactVocabulary.from_counts(counts)
        torch.manual_seed(recipe.seed)
        self.random = np.random.default_rng(recipe.seed)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.model = GPT2Model(recipe.config().replace(vocab_size=len(self.vocabulary)))
        self.average = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.optimizers = build_optimizers(
            self.model, recipe.muon_lr, recipe.adam_lr, recipe.muon_decay, recipe.embedding_decay
        )
        use_training_attention(self.model)
        # Operations of a worker are single-threaded, so that no part of a batch waits for a core that is busy.
        self.workers = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        self.step_count, self.token_count, self.elapsed = 0, 0, 0.0

    def step(self, progress: float) -> float:
        """One update. Returns the batch's loss over the full vocabulary, in nats per token."""
        recipe = self.recipe
        self._set_dropout(recipe.dropout_rate(progress))
        batch = sample_batch(self.sets, recipe, progress, self.random)
        rows = torch.from_numpy(self.vocabulary.rows(batch))  # [batch, seq + 1]
        unknown = torch.rand(rows[:, :-1].shape, generator=self.generator) < recipe.unknown_input
        inputs = rows[:, :-1].masked_fill(unknown, self.vocabulary.shared_row)
        sampled = len(self.vocabulary) if progress >= recipe.all_rows_from else recipe.sampled_rows
        candidates = self.vocabulary.candidates(rows, recipe.frequent_rows, sampled, self.generator)

        loss = self._accumulate_gradients(inputs, rows[:, 1:], candidates)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * recipe.learning_rate(progress)
            optimizer.step()
            optimizer.zero_grad()
        self.step_count += 1
        self.token_count += inputs.numel()
        if self.step_count % recipe.average_every == 0:
            self._update_average()
        return loss

    def _accumulate_gradients(self, inputs: Tensor, targets: Tensor, candidates: Candidates) -> float:
        """Set every parameter's gradient to that of the batch's mean loss. Returns the loss.

        inputs, targets: [batch, seq], rows of the compact vocabulary.
        """
        # The candidates' rows are both the input embedding and the head; other rows are not used in this step.
        embedding = self.model.wte.weight.detach()[candidates.rows].requires_grad_()  # [candidates, n_embd]
        leaves = [embedding, *(p for name, p in self.model.named_parameters() if name != "wte.weight")]

        def gradients(part: tuple[Tensor, Tensor]) -> tuple[float, tuple[Tensor, ...]]:
            part_inputs, part_targets = (candidates.index_of_row[x] for x in part)
            with torch.autocast("cpu", torch.bfloat16):
                embedded = F.embedding(part_inputs, embedding)  # [batch, seq, n_embd]
                hidden = self.model(inputs_embeds=embedded, use_cache=False).last_hidden_state
                loss = chunked_cross_entropy(
                    hidden.flatten(0, 1), embedding, candidates.log_multiplicity, part_targets.flatten()
                )
            return float(loss.detach()), torch.autograd.grad(loss, leaves)

        count = min(self.recipe.parts, len(inputs))
        parts = list(zip(inputs.tensor_split(count), targets.tensor_split(count), strict=True))
        total = 0.0
        for part, (loss, found) in zip(parts, self.workers.map(gradients, parts), strict=True):
            share = len(part[0]) / len(inputs)
            total += loss * share
            for leaf, gradient in zip(leaves, found, strict=True):
                leaf.grad = gradient * share if leaf.grad is None else leaf.grad.add_(gradient, alpha=share)
        wte = self.model.wte.weight
        assert embedding.grad is not None
        wte.grad = torch.zeros_like(wte).index_copy_(0, candidates.rows, embedding.grad)
        return total

    def _update_average(self) -> None:
        recipe = self.recipe
        # The decay is smaller at first, so that the random initial weights do not remain in the mean.
        decay = min(recipe.average_decay, self.step_count / (self.step_count + 10 * recipe.average_every))
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                self.average[name].lerp_(parameter, 1 - decay)

    def _set_dropout(self, rate: float) -> None:
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = rate

    def finished_model(self, averaged: bool) -> GPT2LMHeadModel:
        """The model over the full vocabulary, in evaluation mode."""
        parameters = self.average if averaged else dict(self.model.named_parameters())
        return full_model(parameters, self.vocabulary, self.recipe.config())

    def save(self, path: Path) -> None:
        """Write a checkpoint, which replaces the previous one atomically."""
        state = {
            "recipe": asdict(self.recipe),
            "live_ids": torch.from_numpy(self.vocabulary.live_ids.copy()),
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "random": json.dumps(self.random.bit_generator.state),
            "generator": self.generator.get_state(),
            "torch_random": torch.get_rng_state(),
            "position": (self.step_count, self.token_count, self.elapsed),
        }
        with whole_file(path) as file:
            torch.save(state, file.partial)
            file.complete()

    def resume(self, path: Path) -> None:
        """Restore a checkpoint. Raises `CheckpointError` if it is of another model or corpus."""
        state = read_checkpoint(path)
        if not np.array_equal(state["live_ids"].numpy(), self.vocabulary.live_ids):
            raise CheckpointError(
                f"{path} was trained on other text: its vocabulary differs; use another output folder"
            )
        for name, parameter in self.model.named_parameters():
            found = state["model"][name].shape if name in state["model"] else None
            if found != parameter.shape:
                raise CheckpointError(
                    f"{path} is of another model: {name} is {found}, the recipe has {parameter.shape}; "
                    "use another output folder"
                )
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        for optimizer, optimizer_state in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)
        self.random.bit_generator.state = json.loads(state["random"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch_random"])
        self.step_count, self.token_count, self.elapsed = state["position"]


def evaluate_sets(training: Pretraining, validation: Streams, averaged: bool) -> dict[str, float]:
    """The loss over the full vocabulary on a fixed sample of each validation set."""
    model = training.finished_model(averaged)
    return {
        name: round(evaluate(model, ids, limit=EVALUATION_WINDOWS, dtype=torch.bfloat16).loss, 4)
        for name, ids in validation.items()
    }


def run(training: Pretraining, validation: Streams, output: Path, seconds: float) -> None:
    """Train for `seconds` in total, including earlier runs in the same folder.

    Writes `checkpoint.pt` and `log.jsonl`: training losses, and validation losses on a fixed sample of each set, at the
    end also with the running mean of the weights.
    """
    output.mkdir(parents=True, exist_ok=True)
    checkpoint = output / "checkpoint.pt"
    if checkpoint.exists():
        training.resume(checkpoint)
    started = time.monotonic() - training.elapsed
    evaluated = checkpointed = logged = training.elapsed
    losses: list[float] = []
    with (output / "log.jsonl").open("a", encoding="utf-8") as log:

        def write(record: Mapping[str, Any]) -> None:
            where = {"minutes": round(training.elapsed / 60, 2), "step": training.step_count}
            line = json.dumps({**where, "tokens": training.token_count, **record})
            log.write(line + "\n")
            log.flush()
            print(line, flush=True)

        training.model.train()
        while training.elapsed < seconds:
            progress = training.elapsed / seconds
            losses.append(training.step(progress))
            training.elapsed = time.monotonic() - started
            if not math.isfinite(losses[-1]):
                raise PellucidError(
                    f"the loss is {losses[-1]} at step {training.step_count}: lower the learning rates; "
                    f"{checkpoint} is from an earlier step"
                )
            finished = training.elapsed >= seconds
            if finished or training.elapsed - logged >= LOG_SECONDS:
                rate = training.recipe.learning_rate(progress)
                write({"loss": round(sum(losses) / len(losses), 4), "lr": round(rate, 4)})
                losses, logged = [], training.elapsed
            if finished or training.elapsed - evaluated >= EVALUATION_SECONDS:
                for averaged in (False, True) if finished else (False,):
                    write({"averaged": averaged, **evaluate_sets(training, validation, averaged)})
                training.elapsed = evaluated = time.monotonic() - started
            if finished or training.elapsed - checkpointed >= CHECKPOINT_SECONDS:
                training.save(checkpoint)
                checkpointed = training.elapsed


def load(recipe: Recipe, data: Path, validation: Path, threads: int = 1) -> tuple[Pretraining, Streams]:
    """A run over the documents in `data`, and the validation streams."""
    tokenizer = GPT2Tokenizer.bundled()
    held_out = read_validation(validation)
    sets = {name: encode_documents(docs, tokenizer) for name, docs in read_training(data, held_out).items()}
    streams = {name: encode_documents(docs, tokenizer).ids for name, docs in held_out.items()}
    return Pretraining(recipe, sets, threads), streams


def recipe_with(settings: Sequence[str]) -> Recipe:
    """The default recipe with `NAME=VALUE` changes. Raises `OptionError` for an unknown name or an invalid value."""
    types = {name: type(value) for name, value in asdict(Recipe()).items()}
    changes: dict[str, Any] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in types:
            raise OptionError(f"the recipe has no {name!r}; it has {', '.join(types)}")
        try:
            changes[name] = types[name](value)
        except ValueError as error:
            raise OptionError(f"{name} must be of type {types[name].__name__}, not {value!r}") from error
    return Recipe(**changes)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the training text")
    parser.add_argument("--validation", type=Path, required=True, help="folder with the held-out text files")
    parser.add_argument("--output", type=Path, required=True, help="folder for log, checkpoint and model")
    parser.add_argument("--minutes", type=float, required=True, help="duration of the run")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a value of the recipe")
    arguments = parser.parse_args()
    try:
        recipe = recipe_with(arguments.set)
        torch.set_num_threads(arguments.threads)
        training, validation = load(recipe, arguments.data, arguments.validation, arguments.threads)
        run(training, validation, arguments.output, 60 * arguments.minutes)
        for averaged, folder in ((False, "model"), (True, "model-averaged")):
            export(training.finished_model(averaged), arguments.output / folder)
    except PellucidError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
