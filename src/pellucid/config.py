"""GPT-2's configuration: the fields of a Hub `config.json`, the four published sizes, parameter counts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pellucid.errors import ConfigError
from pellucid.json_object import read_json_object
from pellucid.quoting import quoted

# Names of activation functions in GPT-2 checkpoints, and the function that each one means. `gelu_new`, `gelu_fast` and
# `gelu_pytorch_tanh` are three names of the tanh approximation.
ACTIVATIONS: Mapping[str, str] = {
    "gelu_new": "gelu_new",
    "gelu_fast": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}

# Transformers' generic names of GPT-2's fields. Files use either.
_GENERIC_NAMES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}

_SIZES = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
_MAX_SIZE = 2**31 - 1  # token ids and dimensions are 32-bit integers in the engines
_MAX_EPSILON = 3e38  # within float32


@dataclass(frozen=True, eq=False)
class GPT2Config:
    """The configuration of a GPT-2 model: the fields of its `config.json`.

    Names and defaults are those of the Hub's files. Fields that Pellucid does not use are kept in `extra` and written
    back unchanged. Raises `ConfigError` for values that no GPT-2 can have, and for fields that contradict each other.
    """

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None  # None: 4 * n_embd
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    use_cache: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    pad_token_id: int | None = None
    tie_word_embeddings: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            _check_type(f.name, getattr(self, f.name), str(f.type))
        for name in _SIZES:
            _check_size(name, getattr(self, name))
        if self.n_inner is not None:
            _check_size("n_inner", self.n_inner, "or null for 4 * n_embd")
        if self.n_embd % self.n_head:
            raise ConfigError(
                f"n_embd ({self.n_embd}) is not divisible by n_head ({self.n_head}): "
                "every head has n_embd / n_head channels"
            )
        if self.activation_function not in ACTIVATIONS:
            raise ConfigError(
                f"activation_function is {quoted(self.activation_function)}; GPT-2's is one of {', '.join(ACTIVATIONS)}"
            )
        for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"{name} is {quoted(getattr(self, name))}; a dropout rate is at least 0 and below 1")
        if not 0 < self.layer_norm_epsilon <= _MAX_EPSILON:
            raise ConfigError(
                f"layer_norm_epsilon is {quoted(self.layer_norm_epsilon)}; it must be positive and fit in float32"
            )
        if not 0 <= self.initializer_range <= _MAX_EPSILON:
            raise ConfigError(
                f"initializer_range is {quoted(self.initializer_range)}; it must be a standard deviation of at least 0"
            )
        for name in TOKEN_ID_FIELDS:
            check_token_ids(name, getattr(self, name))
        if self.extra.get("add_cross_attention"):
            raise ConfigError("add_cross_attention is true: this is the decoder of an encoder-decoder model, not GPT-2")

    @property
    def head_dim(self) -> int:
        """Channels of one attention head: n_embd / n_head."""
        return self.n_embd // self.n_head

    @property
    def inner_size(self) -> int:
        """Width of the MLP's hidden layer: `n_inner`, or 4 * n_embd if that is null."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The end-of-text ids: none, one or several."""
        return as_token_ids(self.eos_token_id)

    @property
    def parameter_count(self) -> int:
        """Number of distinct parameters, computed from the sizes. A tied head is the embedding and counts once."""
        d, inner = self.n_embd, self.inner_size
        layer_norm = 2 * d
        attention = (d * 3 * d + 3 * d) + (d * d + d)
        mlp = (d * inner + inner) + (inner * d + d)
        block = layer_norm + attention + layer_norm + mlp
        embeddings = (self.vocab_size + self.n_positions) * d
        head = 0 if self.tie_word_embeddings else self.vocab_size * d
        return embeddings + self.n_layer * block + layer_norm + head

    # Transformers' generic names, for code that is written for any model.
    @property
    def hidden_size(self) -> int:
        return self.n_embd

    @property
    def max_position_embeddings(self) -> int:
        return self.n_positions

    @property
    def num_attention_heads(self) -> int:
        return self.n_head

    @property
    def num_hidden_layers(self) -> int:
        return self.n_layer

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Build from the contents of a `config.json`. Unknown fields go to `extra`."""
        model_type = fields.get("model_type", "gpt2")
        if model_type != "gpt2":
            raise ConfigError(f"model_type is {quoted(model_type)}: this is not a GPT-2")
        own = {f.name for f in dataclasses.fields(cls)} - {"extra"}
        known: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for name, value in fields.items():
            if name in own:
                known[name] = value
            elif name in _GENERIC_NAMES and _GENERIC_NAMES[name] not in fields:
                known[_GENERIC_NAMES[name]] = value
            else:
                extra[name] = value
        # The oldest files name the context length `n_ctx` only.
        if "n_positions" not in known and "n_ctx" in extra:
            known["n_positions"] = extra["n_ctx"]
        return cls(**known, extra=extra)

    def to_dict(self) -> dict[str, Any]:
        """The contents of a `config.json`, with the fields in `extra`."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "extra"}
        return {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], **self.extra, **fields}

    @classmethod
    def from_json_file(cls, path: str | Path) -> Self:
        """Read a `config.json`. Raises `ConfigError`, naming the file, if it cannot be read or is not GPT-2's."""
        path = Path(path)
        fields = read_json_object(path, ConfigError)
        try:
            return cls.from_dict(fields)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def __eq__(self, other: object) -> bool:
        """Whether all fields are equal. Subclasses that only add methods compare equal too."""
        return self.to_dict() == other.to_dict() if isinstance(other, GPT2Config) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.vocab_size, self.n_positions, self.n_embd, self.n_layer, self.n_head))

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json().rstrip()}"


def as_token_ids(ids: int | Sequence[int] | None) -> tuple[int, ...]:
    """None, one id or several ids as a tuple."""
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, int) else tuple(ids)


# The fields of config.json and generation_config.json that hold token ids.
TOKEN_ID_FIELDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def check_token_ids(name: str, ids: Any) -> None:
    """Raise `ConfigError` unless `ids` is None, a token id or a list of token ids.

    Ids beyond the vocabulary are allowed: files often keep GPT-2's 50256 beside a smaller vocabulary.
    """
    for token_id in ids if isinstance(ids, list) else () if ids is None else (ids,):
        if not isinstance(token_id, int) or isinstance(token_id, bool) or abs(token_id) > _MAX_SIZE:
            raise ConfigError(f"{name} is {quoted(ids)}; it must be a token id, a list of token ids, or null")


def _check_size(name: str, size: int, otherwise: str = "") -> None:
    if not 1 <= size <= _MAX_SIZE:
        alternative = f", {otherwise}" if otherwise else ""
        raise ConfigError(f"{name} is {quoted(size)}; it must be at least 1 and at most {_MAX_SIZE:,}{alternative}")


def _check_type(name: str, value: Any, declared: str) -> None:
    allowed = _FIELD_TYPES.get(declared)
    if allowed is None or (value is None and "None" in declared):
        return
    # bool is a subclass of int; true is no number here.
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise ConfigError(f"{name} is {quoted(value)}; it must be of type {declared}")


_FIELD_TYPES: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "int | None": (int,),
    "int | list[int] | None": (int, list),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
}

# The four sizes of "Language Models are Unsupervised Multitask Learners" (Radford et al., 2019), and
# DistilGPT2, a distillation of the smallest with six layers.
PRESETS: Mapping[str, GPT2Config] = {
    "gpt2": GPT2Config(),
    "gpt2-medium": GPT2Config(n_embd=1024, n_layer=24, n_head=16),
    "gpt2-large": GPT2Config(n_embd=1280, n_layer=36, n_head=20),
    "gpt2-xl": GPT2Config(n_embd=1600, n_layer=48, n_head=25),
    "distilgpt2": GPT2Config(n_layer=6),
}
