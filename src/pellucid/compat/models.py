"""The reference models with Transformers' surface: from_pretrained, save_pretrained, generate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from pellucid import decoding
from pellucid.checkpoint import canonical_name, open_checkpoint, write_checkpoint
from pellucid.checkpoint.layout import is_mask_buffer
from pellucid.compat.generation import settle
from pellucid.config import GPT2Config
from pellucid.errors import OptionError
from pellucid.reference import model as reference
from pellucid.reference.engine import ReferenceEngine
from pellucid.reference.load import hub_name, load_model, tie_weights

_DTYPE_NAMES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


class PreTrained(nn.Module):
    """What both models can do besides their forward pass."""

    config: GPT2Config
    generation_config: Mapping[str, Any] = {}

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        device_map: str | torch.device | None = None,
        revision: str | None = None,
    ) -> Self:
        """Load a model in evaluation mode: "demo", "gpt2", a Hub id, a folder or a file.

        dtype: float32 unless given; a torch dtype, its name, or "auto" for the type the file stores.
            `torch_dtype` is its older name.
        device_map: the device to put the weights on; "auto" is a CUDA device where there is one.
        """
        checkpoint = open_checkpoint(name_or_path, revision=revision)
        if device_map == "auto":
            device_map = "cuda" if torch.cuda.is_available() else "cpu"
        wanted = _torch_dtype(dtype if dtype is not None else torch_dtype, checkpoint.dtype)
        model: Any = load_model(checkpoint, cls, dtype=wanted, device=device_map or "cpu")  # type: ignore[type-var]
        model.generation_config = dict(checkpoint.generation_config)
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
        )

    def _named_arrays(self) -> Iterator[tuple[str, np.ndarray[Any, np.dtype[np.float32]]]]:
        # named_parameters gives a tied weight once, under the embedding's name.
        for name, parameter in self.named_parameters():
            yield name, parameter.detach().float().cpu().numpy()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As `torch.nn.Module.load_state_dict`, which this also is for the other forms that files have: names
        with or without `transformer.`, stored causal masks, a tied head left out."""
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

    def num_parameters(self) -> int:
        """Distinct parameters; a tied head is the embedding and counts once."""
        return sum(parameter.numel() for parameter in self.parameters())


class GPT2Model(PreTrained, reference.GPT2Model):
    """`pellucid.reference.model.GPT2Model` with `from_pretrained` and `save_pretrained`."""

    def get_input_embeddings(self) -> nn.Embedding:
        return self.wte


class GPT2LMHeadModel(PreTrained, reference.GPT2LMHeadModel):
    """`pellucid.reference.model.GPT2LMHeadModel` with `from_pretrained`, `save_pretrained` and `generate`."""

    def get_input_embeddings(self) -> nn.Embedding:
        return self.transformer.wte

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def generate(
        self,
        input_ids: Tensor | Sequence[Sequence[int]] | None = None,
        attention_mask: Tensor | Sequence[Sequence[int]] | None = None,
        *,
        inputs: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """Continue each row of `input_ids` [batch, seq], with the rules and defaults of Transformers 5.23.

        attention_mask: [batch, seq], 0 where a row is padded on the left; a padded prompt is continued as it
            would be alone. Left out, padding is told by `pad_token_id` where that is given and is no eos.
        options: max_new_tokens, max_length, do_sample, temperature, top_k, top_p, num_beams, length_penalty,
            early_stopping, num_return_sequences, eos_token_id, pad_token_id, seed. Without a seed, draws follow
            torch's global generator, so that `torch.manual_seed` makes them repeat.

        Returns int64 [batch * num_return_sequences, longest]: rows begin with `input_ids` as given and are filled
        up with pad_token_id. Raises `OptionError` and `ContextLengthError` before any work.
        """
        given = input_ids if input_ids is not None else inputs
        if given is None:
            raise OptionError("generate needs input_ids")
        ids = torch.as_tensor(given).cpu()  # [batch, seq]
        if ids.dim() != 2 or ids.size(0) == 0:
            raise OptionError(f"input_ids must be [batch, seq]; they are {list(ids.shape)}")
        call = settle(options, self.generation_config, self.config, ids.size(1))
        if call.options.do_sample and call.options.seed is None:
            call_seed = int(torch.randint(2**62, (1,)).item())
            call = type(call)(call.options.replace(seed=call_seed), call.pad_token_id)

        prompts = _prompts(ids, attention_mask, options.get("pad_token_id"), call.options.eos_token_ids)
        results = decoding.decode(ReferenceEngine(self), prompts, call.options)
        longest = max(len(result.new_ids) for result in results)
        rows = [result.new_ids + [call.pad_token_id] * (longest - len(result.new_ids)) for result in results]
        repeated = ids.repeat_interleave(call.options.num_return_sequences, dim=0)
        return torch.cat((repeated.long(), torch.tensor(rows, dtype=torch.int64)), dim=1).to(self.device)


def _prompts(
    ids: Tensor,
    attention_mask: Tensor | Sequence[Sequence[int]] | None,
    pad_token_id: int | None,
    eos_token_ids: Sequence[int],
) -> list[list[int]]:
    """Each row without its padding."""
    if attention_mask is not None:
        mask = torch.as_tensor(attention_mask).cpu().bool()
        if mask.shape != ids.shape:
            raise OptionError(f"attention_mask is {list(mask.shape)}, input_ids are {list(ids.shape)}")
    elif pad_token_id is not None and pad_token_id not in eos_token_ids:
        mask = ids != pad_token_id
    else:
        mask = torch.ones_like(ids, dtype=torch.bool)
    for number, row in enumerate(mask):
        # Once a row's tokens begin they go on to its end: the next token follows the last column.
        if bool(row.any()) and not bool(row[int(row.int().argmax()) :].all()):
            raise OptionError(
                f"row {number} is padded on the right or inside: generate needs padding on the left "
                '(tokenizer.padding_side = "left")'
            )
    return [row[keep].tolist() for row, keep in zip(ids, mask, strict=True)]


def _torch_dtype(dtype: torch.dtype | str | None, stored: str) -> torch.dtype:
    if dtype is None:
        return torch.float32
    if dtype == "auto":
        dtype = stored
    for known, name in _DTYPE_NAMES.items():
        if dtype in (known, name):
            return known
    raise OptionError(f"dtype is {dtype!r}; it must be float32, bfloat16 or float16")
