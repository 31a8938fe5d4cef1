"""Published results of a small random checkpoint, as Transformers computes them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import pellucid
from pellucid.language_model import LanguageModel
from pellucid.tokenizer import GPT2Tokenizer

TEXTS = ["long long ago, I was a boy, I love", "gpt2.drawio"]
PROMPT = "long long ago, I was"
BATCH, BATCHES, STEPS = (2, 16), 3, 4


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3)
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    GPT2Tokenizer.bundled().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def lm(folder: Path) -> LanguageModel:
    return pellucid.load(folder)


@pytest.fixture(scope="session")
def _published(folder: Path) -> dict[str, Any]:
    model = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(1)
    tokens = torch.randint(50257, (BATCH[0] * BATCH[1] * BATCHES + 1,)).tolist()
    facts = [
        {"kind": "parameters", "name": "parameters", "expected": model.num_parameters()},
        {"kind": "next_tokens", "name": "next", "texts": TEXTS, "rows": _next_tokens(model, tokenizer)},
        _continuation(model, tokenizer, "greedy", num_beams=1, key="expected_text"),
        _continuation(model, tokenizer, "beams", num_beams=3, key="expected_text"),
        _continuation(model, tokenizer, "greedy ids", num_beams=1, key="expected_ids"),
        {"kind": "logits", "name": "logits", "prompt": PROMPT, "rtol": 1e-4, **_logits(model, tokenizer)},
        {"kind": "loss", "name": "loss", "batches": 1, **_losses(model, tokens, batches=1)},
        {"kind": "loss", "name": "mean loss", "batches": BATCHES, **_losses(model, tokens, batches=BATCHES)},
        {"kind": "training", "name": "AdamW", **_training(model, tokens)},
    ]
    sourced = [{**fact, "source": "Transformers"} for fact in facts]
    return {"name": "small", "facts": sourced, "tokens": {"random": tokens}}


@pytest.fixture
def published(_published: dict[str, Any]) -> dict[str, Any]:
    """The contents of a file of published results, which a test may change."""
    return copy.deepcopy(_published)


@torch.inference_mode()
def _next_tokens(model: Any, tokenizer: Any) -> list[list[tuple[str, float]]]:
    tokenizer.padding_side, tokenizer.pad_token = "left", tokenizer.eos_token
    logits = model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits[:, -1]
    values, ids = logits.softmax(-1).topk(5)
    return [
        [(tokenizer.decode(token).strip(" "), round(100 * value, 2)) for token, value in zip(*row, strict=True)]
        for row in zip(ids.tolist(), values.tolist(), strict=True)
    ]


def _continuation(model: Any, tokenizer: Any, name: str, num_beams: int, key: str) -> dict[str, Any]:
    inputs = tokenizer(PROMPT, return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=10, do_sample=False, num_beams=num_beams, pad_token_id=50256)[0]
    fact = {"kind": "continuation", "name": name, "prompt": PROMPT, "max_new_tokens": 10, "num_beams": num_beams}
    return {**fact, key: tokenizer.decode(ids) if key == "expected_text" else ids.tolist()}


@torch.inference_mode()
def _logits(model: Any, tokenizer: Any) -> dict[str, list[float]]:
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    rows = model(ids).logits[0]
    after = model(torch.cat((ids, rows[-1].argmax().view(1, 1)), dim=1)).logits[0, -1]
    return {
        "first_row_first": rows[0, :10].tolist(),
        "last_row_last": rows[-1, -10:].tolist(),
        "next_row_first": after[:10].tolist(),
        "next_row_last": after[-10:].tolist(),
    }


def _loss(model: Any, tokens: list[int], batch: int) -> torch.Tensor:
    size = BATCH[0] * BATCH[1]
    window = torch.tensor(tokens[batch * size : (batch + 1) * size + 1])
    logits = model(window[:-1].view(*BATCH)).logits
    return torch.nn.functional.cross_entropy(logits.view(size, -1), window[1:])


@torch.inference_mode()
def _losses(model: Any, tokens: list[int], batches: int) -> dict[str, Any]:
    mean = sum(float(_loss(model, tokens, batch)) for batch in range(batches)) / batches
    return {"tokens": "random", "batch": BATCH, "expected": mean, "tolerance": 1e-4}


def _training(model: Any, tokens: list[int]) -> dict[str, Any]:
    settings = {"lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}
    trained = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(trained.parameters(), **settings)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = _loss(trained, tokens, batch=0)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.1
    return {"tokens": "random", "batch": BATCH, "expected": losses, "tolerance": 1e-3, **settings}
