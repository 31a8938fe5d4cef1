"""A checkpoint that has been opened: its configuration, and its tensors, checked and ready to be taken."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pellucid.checkpoint.float_types import Float32Array, StoredArray
from pellucid.checkpoint.layout import EMBEDDING, HEAD, canonical_name, expected_shapes, is_mask_buffer
from pellucid.checkpoint.stored import StoredTensor, equal
from pellucid.config import GPT2Config
from pellucid.errors import CheckpointError, TokenizerError

if TYPE_CHECKING:
    from pellucid.checkpoint.packed_file import PackedFile
    from pellucid.tokenizer import GPT2Tokenizer

# An error about hundreds of tensors names this many of them.
_NAMES_IN_AN_ERROR = 8


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """GPT-2 weights on disk, whatever their format.

    name: what was asked for (`"demo"`, a Hub id, a path).
    path: the folder or file that it is; errors name it.
    config: `tie_word_embeddings` says what the weights say, where the file's own configuration is wrong about it.
    generation_config: the contents of `generation_config.json`, or nothing.

    packed: the file of packed weights that the native engine maps, where that is what the checkpoint is.

    Tensors have the names and shapes of `layout.expected_shapes(config)`, all of them and no others. They were
    checked when the checkpoint was opened; their data is read when it is taken.
    """

    name: str
    path: Path
    config: GPT2Config = field(repr=False)
    generation_config: Mapping[str, Any] = field(repr=False)
    _tensors: Mapping[str, StoredTensor] = field(repr=False)
    _load_tokenizer: Callable[[], GPT2Tokenizer] | None = field(repr=False)
    packed: PackedFile | None = field(default=None, repr=False)

    @classmethod
    def checked(
        cls,
        name: str,
        path: Path,
        config: GPT2Config,
        stored: Mapping[str, StoredTensor],
        *,
        generation_config: Mapping[str, Any] | None = None,
        load_tokenizer: Callable[[], GPT2Tokenizer] | None = None,
        packed: PackedFile | None = None,
    ) -> Self:
        """Match what a file holds, by the file's own keys, with what the configuration asks for.

        Raises `CheckpointError` naming every tensor that is missing, unexpected, misshapen or not a float.
        """
        files = {tensor.file for tensor in stored.values()}
        where = files.pop() if len(files) == 1 else path
        config, tensors = _settle_head(where, config, _by_canonical_name(where, stored))
        order = expected_shapes(config)
        return cls(
            name,
            path,
            config,
            dict(generation_config or {}),
            {tensor_name: tensors[tensor_name] for tensor_name in order},
            load_tokenizer,
            packed,
        )

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

        Raises `CheckpointError` for a name that the checkpoint does not have or a file that cannot be read.
        """
        return self._tensor(name).read()

    def take_stored(self, name: str) -> StoredArray:
        """As `take`, but numbers stored as float16 or bfloat16 as they are."""
        return self._tensor(name).read_stored()

    def stored_blocks(self, name: str) -> Iterator[StoredArray]:
        """As `take_stored`, its elements in order, as flat arrays of about a megabyte, for what need not hold it whole.
        A block is good until the next."""
        return self._tensor(name).stored_blocks()

    def _tensor(self, name: str) -> StoredTensor:
        if name not in self._tensors:
            hint = "; its head is tied: take wte.weight" if name == HEAD else ""
            raise CheckpointError(f"{self.path} has no tensor {name}{hint}")
        return self._tensors[name]

    @property
    def has_tokenizer(self) -> bool:
        return self._load_tokenizer is not None

    def tokenizer(self) -> GPT2Tokenizer:
        """The checkpoint's own tokenizer. Raises `TokenizerError` where it has none."""
        if self._load_tokenizer is None:
            raise TokenizerError(
                f"{self.path} has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt; "
                "give prompts as lists of token ids, or put the tokenizer's files beside the weights"
            )
        return self._load_tokenizer()


def _by_canonical_name(where: Path, stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for key, tensor in stored.items():
        name = canonical_name(key)
        if is_mask_buffer(name):
            continue
        if name in tensors:
            raise CheckpointError(f"{where} holds {name} twice: as {tensors[name].key} and as {key}")
        tensors[name] = tensor
    return tensors


def _settle_head(
    where: Path, config: GPT2Config, tensors: dict[str, StoredTensor]
) -> tuple[GPT2Config, dict[str, StoredTensor]]:
    """Check the tensors, and decide as Transformers 5 does (`PreTrainedModel.tie_weights`) what a head is that
    is stored although the configuration ties it: the embedding again where they are equal or the embedding is
    absent, a head of its own where they differ."""
    if config.tie_word_embeddings and HEAD in tensors and EMBEDDING not in tensors:
        tensors = {**tensors, EMBEDDING: tensors[HEAD]}
        del tensors[HEAD]
    if not config.tie_word_embeddings or HEAD not in tensors:
        _check(where, config, tensors)
        return config, tensors
    untied = config.replace(tie_word_embeddings=False)
    _check(where, untied, tensors)
    if equal(tensors[EMBEDDING], tensors[HEAD]):
        return config, tensors
    warnings.warn(
        f"{where}: tie_word_embeddings is true, but lm_head.weight differs from wte.weight; the head is kept as it is",
        stacklevel=5,
    )
    return untied, tensors


def _check(where: Path, config: GPT2Config, tensors: Mapping[str, StoredTensor]) -> None:
    if config.n_layer > len(tensors):  # so that a lying configuration cannot ask for a list of billions
        raise CheckpointError(f"{where} has {len(tensors)} tensors, but its configuration {config.n_layer:,} layers")

    def key(tensor: StoredTensor) -> str:
        return tensor.key if tensor.file == where else f"{tensor.key} in {tensor.file.name}"

    expected = expected_shapes(config)
    both = [(tensors[name], shape) for name, shape in expected.items() if name in tensors]
    missing = [name for name in expected if name not in tensors]
    unexpected = [f"{key(tensor)} {list(tensor.shape)}" for name, tensor in tensors.items() if name not in expected]
    misshapen = [f"{key(t)} is {list(t.shape)}, its place {list(shape)}" for t, shape in both if t.shape != shape]
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
            " The configuration says tie_word_embeddings: false, so the head must be stored;"
            " if the model's head is its embedding, set it to true."
        )
    raise CheckpointError(message)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_IN_AN_ERROR])
    rest = len(names) - _NAMES_IN_AN_ERROR
    return f"{shown} and {rest} more" if rest > 0 else shown
