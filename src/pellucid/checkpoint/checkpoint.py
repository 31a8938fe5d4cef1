"""An open checkpoint: its configuration, and its tensors, which were checked and can be read."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from pellucid.checkpoint.float_types import Float32Array, StoredArray
from pellucid.checkpoint.layout import (
    EMBEDDING,
    HEAD,
    canonical_name,
    check_layer_count,
    expected_shapes,
    is_mask_buffer,
)
from pellucid.checkpoint.stored import StoredTensor, equal
from pellucid.config import GPT2Config
from pellucid.errors import CheckpointError, TokenizerError
from pellucid.quoting import clipped, quoted

if TYPE_CHECKING:
    from pellucid.checkpoint.packed_file import PackedFile
    from pellucid.tokenizer import GPT2Tokenizer
    from pellucid.tokenizer.settings import TokenizerSettings

# An error about many tensors names this many of them.
_NAMES_IN_AN_ERROR = 8


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """GPT-2 weights on disk, in any format.

    name: the name it was opened by: `"demo"`, a Hub id or a path.
    path: its folder or file, which errors name.
    config: the configuration. `tie_word_embeddings` is corrected where the stored head differs from the embedding.
    generation_config: the contents of `generation_config.json`, empty if there is none.
    packed: the packed weights that the native engine maps, if the checkpoint is packed.

    Its tensors are those of `layout.expected_shapes(config)`. Names, shapes and types were checked when the checkpoint
    was opened; data is read when a tensor is taken.
    """

    name: str
    path: Path
    config: GPT2Config = field(repr=False)
    generation_config: Mapping[str, Any] = field(repr=False)
    _tensors: Mapping[str, StoredTensor] = field(repr=False)
    _load_tokenizer: Callable[..., GPT2Tokenizer] | None = field(repr=False)
    packed: PackedFile | None = field(default=None, repr=False)

    @classmethod
    def checked(
        cls,
        name: str,
        path: Path,
        config: GPT2Config,
        stored: Mapping[str, StoredTensor],
        generation_config: Mapping[str, Any],
        load_tokenizer: Callable[..., GPT2Tokenizer] | None,
        packed: PackedFile | None,
        *,
        head: bool = True,
    ) -> Self:
        """Match the tensors of a file, by its keys, with those that the configuration requires.

        head: whether an untied head is required and kept; without it the tensors are those of the base model.

        Raises `CheckpointError` naming every tensor that is missing, unexpected, of a wrong shape or not a float.
        """
        files = {tensor.file for tensor in stored.values()}
        where = files.pop() if len(files) == 1 else path
        tensors = _by_canonical_name(where, stored)
        if config.tie_word_embeddings and HEAD in tensors and EMBEDDING not in tensors:
            tensors[EMBEDDING] = tensors.pop(HEAD)
        if not head:
            tensors.pop(HEAD, None)
        config = _with_settled_head(where, config, tensors, head)
        in_order = {tensor_name: tensors[tensor_name] for tensor_name in expected_shapes(config, head=head)}
        return cls(name, path, config, dict(generation_config), in_order, load_tokenizer, packed)

    @property
    def dtype(self) -> str:
        """The type that most of the weights are stored in: "float32", "float16", "bfloat16", ..."""
        elements: Counter[str] = Counter()
        for tensor in self._tensors.values():
            elements[tensor.dtype] += tensor.size
        return elements.most_common(1)[0][0]

    def tensor_names(self) -> tuple[str, ...]:
        """All tensors, in the order of the forward pass."""
        return tuple(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensor(name).shape

    def take(self, name: str) -> Float32Array:
        """One tensor as a new C-contiguous float32 array, which the caller owns.

        Raises `CheckpointError` for an unknown name, and for a file that cannot be read or was changed.
        """
        return self._tensor(name).read()

    def take_stored(self, name: str) -> StoredArray:
        """As `take`, but float16 and bfloat16 are not converted."""
        return self._tensor(name).read_stored()

    def stored_blocks(self, name: str) -> Iterator[StoredArray]:
        """As `take_stored`, but in flat blocks of about a megabyte. The next block overwrites a block."""
        return self._tensor(name).stored_blocks()

    def _tensor(self, name: str) -> StoredTensor:
        if name not in self._tensors:
            hint = "; its head is tied: take wte.weight" if name == HEAD else ""
            raise CheckpointError(f"{self.path} has no tensor {clipped(name)}{hint}")
        return self._tensors[name]

    @property
    def has_tokenizer(self) -> bool:
        return self._load_tokenizer is not None

    def tokenizer(self, **settings: Unpack[TokenizerSettings]) -> GPT2Tokenizer:
        """The checkpoint's tokenizer; settings override its own. Raises `TokenizerError` if it has none."""
        if self._load_tokenizer is None:
            raise TokenizerError(
                f"{self.path} has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt; "
                "give prompts as lists of token ids, or put the tokenizer's files beside the weights"
            )
        return self._load_tokenizer(**settings)


def _by_canonical_name(where: Path, stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for key, tensor in stored.items():
        name = canonical_name(key)
        if is_mask_buffer(name):
            continue
        if name in tensors:
            raise CheckpointError(
                f"{where} holds {clipped(name)} twice: as {clipped(tensors[name].key)} and as {clipped(key)}"
            )
        tensors[name] = tensor
    return tensors


def _with_settled_head(where: Path, config: GPT2Config, tensors: Mapping[str, StoredTensor], head: bool) -> GPT2Config:
    """Check the tensors, and untie the head in the configuration if a different one is stored.

    As Transformers 5 does (`PreTrainedModel.tie_weights`): a head that is stored although the configuration ties it is
    ignored where it equals the embedding, and kept where it differs.
    """
    if not config.tie_word_embeddings or HEAD not in tensors:
        _check(where, config, tensors, head)
        return config
    untied = config.replace(tie_word_embeddings=False)
    _check(where, untied, tensors, head)
    if equal(tensors[EMBEDDING], tensors[HEAD]):
        return config
    warnings.warn(
        f"{where}: tie_word_embeddings is true, but lm_head.weight differs from wte.weight; the head is kept as it is",
        stacklevel=5,
    )
    return untied


def _check(where: Path, config: GPT2Config, tensors: Mapping[str, StoredTensor], head: bool) -> None:
    check_layer_count(where, config, len(tensors))

    def key(tensor: StoredTensor) -> str:
        return clipped(tensor.key if tensor.file == where else f"{tensor.key} in {tensor.file.name}")

    def shape(sizes: tuple[int, ...]) -> str:
        return quoted(list(sizes))

    expected = expected_shapes(config, head=head)
    both = [(tensors[name], sizes) for name, sizes in expected.items() if name in tensors]
    missing = [name for name in expected if name not in tensors]
    unexpected = [f"{key(tensor)} {shape(tensor.shape)}" for name, tensor in tensors.items() if name not in expected]
    misshapen = [f"{key(t)} is {shape(t.shape)}, not {shape(sizes)}" for t, sizes in both if t.shape != sizes]
    not_float = [f"{key(tensor)} ({tensor.dtype})" for tensor, _ in both if not tensor.is_float]

    problems = [
        f"{what}: {_listed(names)}"
        for what, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of the wrong shape", misshapen),
            ("not of a float type that can be read", not_float),
        )
        if names
    ]
    if not problems:
        return
    message = f"{where} does not hold the GPT-2 that its configuration describes. Tensors {'; '.join(problems)}."
    if missing == [HEAD]:
        message += (
            " The configuration says tie_word_embeddings: false, so a language model needs a stored head."
            " If the head is the embedding, set it to true; a model without a head is opened with AutoModel."
        )
    raise CheckpointError(message)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_IN_AN_ERROR])
    rest = len(names) - _NAMES_IN_AN_ERROR
    return f"{shown} and {rest} more" if rest > 0 else shown
