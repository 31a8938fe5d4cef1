"""Small models in every format, and a record and a trace, for trials to damage and to run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

import pellucid
from pellucid.checkpoint import open_checkpoint
from pellucid.native.quantize import quantize
from pellucid.tokenizer import GPT2Tokenizer

_TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
_NANOGPT_SIZES = ("n_layer", "n_head", "n_embd", "vocab_size")


def small_model(**fields: Any) -> transformers.GPT2LMHeadModel:
    """A random GPT-2 with weights large enough for peaked distributions."""
    sizes = {"vocab_size": 330, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}
    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**sizes, **ends, **fields})).eval()


def small_tokenizer() -> tokenizers.Tokenizer:
    """A byte-level BPE of 330 tokens."""
    small = tokenizers.Tokenizer(models.BPE())
    small.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    small.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    small.train_from_iterator(["the quick brown fox doesn't jump over 123 naïve 日本語 🙂 dogs  \n\n"] * 9, trainer)
    return small


def write_hub_folder(folder: Path, **fields: Any) -> Path:
    """A model as Transformers saves it, with a tokenizer."""
    small_model(**fields).save_pretrained(folder)
    small_tokenizer().save(str(folder / "tokenizer.json"))
    GPT2Tokenizer.from_folder(folder).save_pretrained(folder)
    return folder


def write_samples(folder: Path) -> Path:
    """Write one folder per format with a model in it, and `record.json` and `trace.safetensors` beside them."""
    hub = write_hub_folder(folder / "hub")
    model = small_model()
    _write_sharded(folder / "sharded", hub, model)
    for precision in ("int8", "int4", "bfloat16"):
        quantize(open_checkpoint(hub), folder / precision, precision)
    for name, zipped in (("bin", True), ("legacy", False)):
        (folder / name).mkdir()
        shutil.copy(hub / "config.json", folder / name)
        torch.save(model.state_dict(), folder / name / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    _write_nanogpt(folder / "nanogpt", model)
    _write_gguf(folder / "gguf", model)
    lm = pellucid.load(hub)
    generation = lm.generate("the fox", max_new_tokens=4, num_beams=2, record=True)
    (folder / "record.json").write_text(generation.record.to_json())
    lm.trace("the fox").save(folder / "trace.safetensors")
    return folder


def _write_sharded(folder: Path, hub: Path, model: transformers.GPT2LMHeadModel) -> None:
    model.save_pretrained(folder, max_shard_size="60KB")
    small_tokenizer().model.save(str(folder))
    shutil.copy(hub / "tokenizer_config.json", folder)


def _write_nanogpt(folder: Path, model: transformers.GPT2LMHeadModel) -> None:
    """Write nanoGPT's format: matrices as in `nn.Linear`, and the sizes of the model beside the weights."""
    folder.mkdir()
    state = {
        name: tensor.T.contiguous() if name.endswith(_TRANSPOSED) else tensor
        for name, tensor in model.state_dict().items()
    }
    sizes = {name: getattr(model.config, name) for name in _NANOGPT_SIZES}
    arguments = {**sizes, "block_size": model.config.n_positions, "bias": True, "dropout": 0.0}
    torch.save({"model": state, "model_args": arguments, "iter_num": 1}, folder / "ckpt.pt")


def _write_gguf(folder: Path, model: transformers.GPT2LMHeadModel) -> None:
    folder.mkdir()
    config, small = model.config, small_tokenizer()
    writer = gguf.GGUFWriter(folder / "model.gguf", "gpt2")
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    vocabulary = sorted(small.get_vocab(), key=small.get_vocab().__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(vocabulary) - 1))
    writer.add_token_merges([" ".join(pair) for pair in json.loads(small.to_str())["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, config.n_layer)
    for key, tensor in model.state_dict().items():
        if key != "lm_head.weight":
            name = names.get_name(key, try_suffixes=(".weight", ".bias"))
            writer.add_tensor(name, (tensor.T if key.endswith(_TRANSPOSED) else tensor).contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
