"""Models loaded from nanoGPT checkpoints compute what nanoGPT computes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.checkpoint import open_checkpoint, write_checkpoint
from pellucid.errors import CheckpointError, ConfigError, TokenizerError

SIZES: dict[str, Any] = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 24, "vocab_size": 101, "dropout": 0.0}


class Norm(nn.Module):
    """Layer norm with an optional bias."""

    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


def make_block(width: int, bias: bool) -> nn.ModuleDict:
    attn = nn.ModuleDict({"c_attn": nn.Linear(width, 3 * width, bias), "c_proj": nn.Linear(width, width, bias)})
    mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width, bias), "c_proj": nn.Linear(4 * width, width, bias)})
    return nn.ModuleDict({"ln_1": Norm(width, bias), "attn": attn, "ln_2": Norm(width, bias), "mlp": mlp})


class NanoGPT(nn.Module):
    """GPT-2 with `nn.Linear` and the exact GELU, with nanoGPT's parameter names."""

    def __init__(self, *, bias: bool = True, tied: bool = True, **sizes: Any) -> None:
        super().__init__()
        self.arguments = {**SIZES, **sizes, "bias": bias}
        width, vocab = self.arguments["n_embd"], self.arguments["vocab_size"]
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocab, width),
                "wpe": nn.Embedding(self.arguments["block_size"], width),
                "h": nn.ModuleList(make_block(width, bias) for _ in range(self.arguments["n_layer"])),
                "ln_f": Norm(width, bias),
            }
        )
        self.lm_head = nn.Linear(width, vocab, bias=False)
        if tied:
            self.lm_head.weight = self.transformer.wte.weight
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)

    def forward(self, ids: Tensor) -> Tensor:
        t = self.transformer
        batch, seq = ids.shape
        x = t.wte(ids) + t.wpe(torch.arange(seq))
        for block in t.h:
            heads = block.attn.c_attn(block.ln_1(x)).view(batch, seq, 3, self.arguments["n_head"], -1).unbind(2)
            q, k, v = (part.transpose(1, 2) for part in heads)
            scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
            weights = scores.masked_fill(~torch.ones(seq, seq, dtype=torch.bool).tril(), -torch.inf).softmax(-1)
            x = x + block.attn.c_proj((weights @ v).transpose(1, 2).reshape(batch, seq, -1))
            x = x + block.mlp.c_proj(F.gelu(block.mlp.c_fc(block.ln_2(x))))
        return self.lm_head(t.ln_f(x))

    def save(self, path: Path, *, prefix: str = "", **changes: Any) -> Path:
        """Write a checkpoint as nanoGPT's `train.py` does: optimizer state and progress beside the weights."""
        optimizer = torch.optim.AdamW(self.parameters())
        self(torch.zeros(1, 2, dtype=torch.long)).sum().backward()
        optimizer.step()
        checkpoint = {
            "model": {prefix + name: tensor for name, tensor in self.state_dict().items()},
            "optimizer": optimizer.state_dict(),
            "model_args": self.arguments,
            "iter_num": 1,
            "best_val_loss": torch.tensor(3.0),
            "config": {"dataset": "a book"},
        }
        torch.save({**checkpoint, **changes}, path)
        return path


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("bias", [True, False], ids=["biases", "no biases"])
@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module._orig_mod."])
def test_logits_are_nanogpts_own(prefix: str, bias: bool, tied: bool, tmp_path: Path) -> None:
    """End to end: read the .pt file, write a Hub folder, and run it in Transformers."""
    nano = NanoGPT(bias=bias, tied=tied)
    checkpoint = open_checkpoint(nano.save(tmp_path / "ckpt.pt", prefix=prefix))
    assert checkpoint.config.tie_word_embeddings == tied
    weights = ((name, checkpoint.take(name)) for name in checkpoint.tensor_names())
    write_checkpoint(tmp_path / "written", checkpoint.config, weights)
    model = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "written").eval()
    ids = torch.randint(0, 101, (2, 24), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected, got = nano(ids), model(ids).logits
    assert float((expected - got).abs().max() / expected.abs().max()) < 1e-5


def test_the_config_says_what_nanogpt_does(tmp_path: Path) -> None:
    config = open_checkpoint(NanoGPT(dropout=0.25).save(tmp_path / "ckpt.pt")).config
    assert config.activation_function == "gelu" and config.n_positions == 24
    assert config.resid_pdrop == config.embd_pdrop == config.attn_pdrop == 0.25
    assert config.bos_token_id is None and config.eos_token_id is None


def test_an_unstated_vocabulary_is_the_embeddings(tmp_path: Path) -> None:
    nano = NanoGPT()
    path = nano.save(tmp_path / "ckpt.pt", model_args={**nano.arguments, "vocab_size": None})
    assert open_checkpoint(path).config.vocab_size == 101


def test_stored_causal_masks_are_dropped(tmp_path: Path) -> None:
    nano = NanoGPT()
    masks = {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 24, 24) for i in range(2)}
    path = nano.save(tmp_path / "ckpt.pt", model={**nano.state_dict(), **masks})
    assert "h.0.attn.bias" not in open_checkpoint(path).tensor_names()


@pytest.mark.parametrize("vocab_size", [50257, 50304])
def test_gpt2s_own_vocabulary_is_recognized_by_its_size(vocab_size: int, tmp_path: Path) -> None:
    path = NanoGPT(vocab_size=vocab_size, n_embd=4, n_head=1, n_layer=1).save(tmp_path / "ckpt.pt")
    checkpoint = open_checkpoint(path)
    assert checkpoint.config.vocab_size == vocab_size and checkpoint.shape("wte.weight") == (vocab_size, 4)
    assert checkpoint.config.bos_token_id == checkpoint.config.eos_token_id == 50256
    assert checkpoint.tokenizer().decode([50256]) == "<|endoftext|>"


def test_another_vocabulary_has_no_tokenizer(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(NanoGPT().save(tmp_path / "ckpt.pt"))
    assert not checkpoint.has_tokenizer
    with pytest.raises(TokenizerError, match=r"ckpt\.pt has no tokenizer"):
        checkpoint.tokenizer()


def test_tokenizer_files_beside_the_checkpoint_are_its_tokenizer(tmp_path: Path) -> None:
    vocabulary = '{"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}'
    (tmp_path / "vocab.json").write_text(vocabulary)
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    checkpoint = open_checkpoint(NanoGPT().save(tmp_path / "ckpt.pt"))
    assert checkpoint.tokenizer().encode("ab") == [2]


@pytest.mark.parametrize("missing", ["n_layer", "n_head", "n_embd", "block_size"])
def test_a_missing_argument_is_named(missing: str, tmp_path: Path) -> None:
    nano = NanoGPT()
    arguments = {name: value for name, value in nano.arguments.items() if name != missing}
    with pytest.raises(CheckpointError, match=rf"ckpt\.pt: model_args lacks {missing}"):
        open_checkpoint(nano.save(tmp_path / "ckpt.pt", model_args=arguments))


@pytest.mark.parametrize("bias", [True, False])
def test_an_enormous_layer_count_is_one_error(bias: bool, tmp_path: Path) -> None:
    nano = NanoGPT(bias=bias)
    path = nano.save(tmp_path / "ckpt.pt", model_args={**nano.arguments, "n_layer": 2**31 - 1})
    with pytest.raises(CheckpointError, match=r"tensors, but its configuration 2,147,483,647 layers"):
        open_checkpoint(path)


def test_arguments_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    nano = NanoGPT()
    with pytest.raises(ConfigError, match=r"ckpt\.pt: n_embd \(32\) is not divisible by n_head \(5\)"):
        open_checkpoint(nano.save(tmp_path / "ckpt.pt", model_args={**nano.arguments, "n_head": 5}))


def test_a_missing_bias_is_missing_unless_the_arguments_say_there_are_none(tmp_path: Path) -> None:
    nano = NanoGPT()
    state = nano.state_dict()
    del state["transformer.h.1.mlp.c_fc.bias"]
    with pytest.raises(CheckpointError, match=r"ckpt\.pt .* missing: h\.1\.mlp\.c_fc\.bias\."):
        open_checkpoint(nano.save(tmp_path / "ckpt.pt", model=state))


def test_tensors_of_another_size_are_named_by_their_own_keys(tmp_path: Path) -> None:
    nano = NanoGPT()
    path = nano.save(tmp_path / "ckpt.pt", prefix="_orig_mod.", model_args={**nano.arguments, "block_size": 25})
    with pytest.raises(CheckpointError, match=r"_orig_mod\.transformer\.wpe\.weight is \[24, 32\]|wpe\.weight"):
        open_checkpoint(path)
