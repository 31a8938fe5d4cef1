"""The reference models with Transformers' surface: from_pretrained, save_pretrained, generate."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.checkpoint import canonical_name, open_checkpoint, write_checkpoint
from pellucid.checkpoint.layout import is_mask_buffer
from pellucid.compat.caches import Cache, extend, pairs
from pellucid.compat.generation import GenerateOutput, Streamer, generate
from pellucid.compat.generation_config import GenerationConfig
from pellucid.compat.native import native_engine
from pellucid.compat.pretrained import GPT2Config, check_overrides
from pellucid.config import GPT2Config as BaseConfig
from pellucid.errors import OptionError
from pellucid.reference import model as reference
from pellucid.reference.engine import ReferenceEngine
from pellucid.reference.load import hub_name, load_model, tie_weights

_DTYPE_NAMES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


class PreTrained(nn.Module):
    """The methods that both models share, beside the forward pass."""

    config: GPT2Config

    def __init__(self, config: BaseConfig) -> None:
        own = config if isinstance(config, GPT2Config) else GPT2Config.of(config)
        super().__init__(own.used_by_model())
        self.generation_config = GenerationConfig()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        device_map: str | torch.device | None = None,
        revision: str | None = None,
        **fields: Any,
    ) -> Self:
        """Load a model in evaluation mode: "demo", "gpt2", a Hub id, a folder or a file.

        dtype: a torch dtype, its name, or "auto" for the type that the file stores; float32 by default.
            `torch_dtype` is its older name.
        device_map: the device to put the weights on; "auto" is a CUDA device where there is one.
        fields: fields of the configuration that override the file's, such as `pad_token_id`.

        Raises `ConfigError` for a field that the weights decide, and for an argument that is unknown or not supported.
        """
        overrides = check_overrides(fields)
        checkpoint = open_checkpoint(name_or_path, revision=revision, head=issubclass(cls, reference.GPT2LMHeadModel))
        if device_map == "auto":
            device_map = "cuda" if torch.cuda.is_available() else "cpu"
        wanted = _torch_dtype(dtype if dtype is not None else torch_dtype, checkpoint.dtype)
        checkpoint = dataclasses.replace(checkpoint, config=checkpoint.config.replace(**overrides))
        model: Any = load_model(checkpoint, cls, dtype=wanted, device=device_map or "cpu")  # type: ignore[type-var]
        model.generation_config = GenerationConfig(checkpoint.generation_config)
        return model  # type: ignore[no-any-return]

    def save_pretrained(self, folder: str | Path, *, max_shard_size: int | str | None = None) -> None:
        """Write a Hub folder that this class and Transformers load to identical logits, in the weights' own type."""
        write_checkpoint(
            folder,
            self.config,
            self._named_arrays(),
            dtype=_DTYPE_NAMES[self.dtype],
            generation_config=self.generation_config,
            max_shard_size=max_shard_size,
            head=isinstance(self, reference.GPT2LMHeadModel),
        )

    def _named_arrays(self) -> Iterator[tuple[str, np.ndarray[Any, np.dtype[np.float32]]]]:
        # named_parameters yields a tied weight once, under the embedding's name.
        for name, parameter in self.named_parameters():
            yield name, parameter.detach().float().cpu().numpy()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As `torch.nn.Module.load_state_dict`. It also takes the forms that files have: names with or without
        `transformer.`, stored causal masks, no entry for a tied head."""
        has_head = isinstance(self, reference.GPT2LMHeadModel)
        own: dict[str, Any] = {}
        for key, tensor in state_dict.items():
            name = canonical_name(key)
            if not is_mask_buffer(name) and (has_head or name != "lm_head.weight"):
                own[hub_name(name) if has_head else name] = tensor
        if has_head and self.config.tie_word_embeddings and "transformer.wte.weight" in own:
            own["lm_head.weight"] = own["transformer.wte.weight"]
        result = super().load_state_dict(own, strict=strict, assign=assign)
        tie_weights(self)
        return result

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def num_parameters(self, only_trainable: bool = False) -> int:
        """Distinct parameters; a tied head is the embedding and counts once."""
        counted = (parameter for parameter in self.parameters() if parameter.requires_grad or not only_trainable)
        return sum(parameter.numel() for parameter in counted)

    def forward(self, input_ids: Any = None, past_key_values: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As `pellucid.reference.model`'s, which takes and returns caches as tuples; a `DynamicCache` of Transformers
        is extended in place and returned, as there."""
        if not isinstance(past_key_values, Cache):
            return super().forward(input_ids, past_key_values, *args, **kwargs)
        as_tuple = kwargs.pop("return_dict", True) is False
        kwargs["use_cache"] = True
        output = super().forward(input_ids, pairs(past_key_values), *args, **kwargs)
        extend(past_key_values, output.past_key_values)
        output = dataclasses.replace(output, past_key_values=past_key_values)
        return output.to_tuple() if as_tuple else output

    def resize_token_embeddings(self, new_num_tokens: int | None = None) -> nn.Embedding:
        """Give the vocabulary another size, with the embeddings that there are; returns the embedding.

        New rows are the mean of the old ones, so that no new token is likelier than the average one.
        """
        embedding = self.get_input_embeddings()
        if new_num_tokens is None or new_num_tokens == embedding.num_embeddings:
            return embedding
        if new_num_tokens < 1:
            raise OptionError(f"new_num_tokens is {new_num_tokens}; it must be at least 1")
        head = getattr(self, "lm_head", None)
        if head is not None and not self.config.tie_word_embeddings:
            head.weight = nn.Parameter(_resized(head.weight, new_num_tokens))
        embedding.weight = nn.Parameter(_resized(embedding.weight, new_num_tokens))
        embedding.num_embeddings = new_num_tokens
        if head is not None:
            head.out_features = new_num_tokens
        object.__setattr__(self.config, "vocab_size", new_num_tokens)
        tie_weights(self)
        return embedding

    def get_input_embeddings(self) -> nn.Embedding:
        raise NotImplementedError


class GPT2Model(PreTrained, reference.GPT2Model):
    """`pellucid.reference.model.GPT2Model` with `from_pretrained` and `save_pretrained`."""

    config: GPT2Config

    def get_input_embeddings(self) -> nn.Embedding:
        return self.wte


class GPT2LMHeadModel(PreTrained, reference.GPT2LMHeadModel):
    """`pellucid.reference.model.GPT2LMHeadModel` with `from_pretrained`, `save_pretrained` and `generate`."""

    config: GPT2Config

    def get_input_embeddings(self) -> nn.Embedding:
        return self.transformer.wte

    def tie_weights(self) -> None:
        """Make the head use the embedding's weight if the configuration ties them."""
        tie_weights(self)

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def generate(
        self,
        input_ids: Tensor | Sequence[Sequence[int]] | None = None,
        attention_mask: Tensor | Sequence[Sequence[int]] | None = None,
        *,
        inputs: Tensor | None = None,
        generation_config: Any = None,
        streamer: Streamer | None = None,
        tokenizer: Any = None,
        assistant_model: reference.GPT2LMHeadModel | None = None,
        engine: Literal["torch", "native"] = "torch",
        **options: Any,
    ) -> Any:
        """Continue each row of `input_ids` [batch, seq], with the rules and defaults of Transformers 5.23.

        attention_mask: [batch, seq], 0 for padding, which must be on the left. A padded prompt is continued as it would
            be alone. By default, padding is where `input_ids` are `pad_token_id`, if that is given and not an eos.
        generation_config: a dict of options, or an object with `to_dict`, instead of the model's own.
        streamer: receives tokens as they are chosen, like Transformers' streamers.
        tokenizer: the model's tokenizer, for `stop_strings`.
        assistant_model: a smaller model that drafts tokens.
        engine: "torch" is this model, the default; "native" is the CPU engine with a packed copy of the weights, which
            is cached with the model and renewed when they change.
        options: those of `GenerationOptions`, and pad_token_id, return_dict_in_generate and output_scores.
            `logits_processor` and `stopping_criteria` are functions of tensors ([1, seq], [1, vocab]) here. Without a
            seed, sampling draws its seed from torch's global generator, so `torch.manual_seed` makes it repeatable.

        Returns int64 [batch * num_return_sequences, longest]: `input_ids`, the new tokens, and pad_token_id to the
        end of each row; or a `GenerateOutput` with it. Raises `OptionError` and `ContextLengthError` before any work.
        """
        given = input_ids if input_ids is not None else inputs
        if given is None:
            raise OptionError("generate needs input_ids")
        if isinstance(given, str):
            raise OptionError('input_ids are a string; encode it: tokenizer(text, return_tensors="pt")')
        ids = torch.as_tensor(given).cpu()  # [batch, seq]
        if ids.dim() != 2 or ids.size(0) == 0:
            raise OptionError(f"input_ids must be [batch, seq]; they are {list(ids.shape)}")
        if generation_config is None:
            generation_config = self.generation_config
        elif hasattr(generation_config, "to_dict"):
            generation_config = generation_config.to_dict()
        if engine not in ("torch", "native"):
            raise OptionError(f"engine is {engine!r}; it must be torch or native")
        output = generate(
            native_engine(self) if engine == "native" else ReferenceEngine(self),
            self.config,
            generation_config,
            ids,
            attention_mask,
            options,
            tokenizer=tokenizer,
            assistant=None if assistant_model is None else ReferenceEngine(assistant_model),
            streamer=streamer,
        )
        if isinstance(output, GenerateOutput):
            return dataclasses.replace(output, sequences=output.sequences.to(self.device))
        return output.to(self.device)


def _resized(weight: Tensor, rows: int) -> Tensor:
    """A matrix [vocab, n_embd] with another number of rows."""
    kept = weight.detach()[:rows]
    added = weight.detach().float().mean(0).to(weight.dtype).expand(rows - len(kept), -1)
    return torch.cat((kept, added))


def _torch_dtype(dtype: torch.dtype | str | None, stored: str) -> torch.dtype:
    if dtype is None:
        return torch.float32
    if dtype == "auto":
        dtype = stored
    for known, name in _DTYPE_NAMES.items():
        if dtype in (known, name):
            return known
    raise OptionError(f"dtype is {dtype!r}; it must be float32, bfloat16 or float16")
