"""GPT-2, from top to bottom.

Radford et al., "Language Models are Unsupervised Multitask Learners" (2019). The residual stream of a position starts
as the sum of its token embedding and its position embedding. Each block adds the output of its attention, then the
output of its MLP. A final layer norm and the head turn the stream into logits over the vocabulary.

Sizes in the shape comments: batch, seq (tokens of this call), past (tokens in the cache), total = past + seq, n_embd,
n_head, head_dim = n_embd / n_head, inner (4 * n_embd), vocab.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.config import ACTIVATIONS, GPT2Config
from pellucid.errors import ContextLengthError
from pellucid.reference.output import CausalLMOutput, GPT2ModelOutput, PastKeyValues

LayerPast = tuple[Tensor, Tensor]


class Conv1D(nn.Module):
    """A linear layer with a weight of shape [in, out], the transpose of `nn.Linear`'s: the layout of OpenAI's files."""

    def __init__(self, out_features: int, in_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor) -> Tensor:
        flat = torch.addmm(self.bias, x.flatten(0, -2), self.weight)  # [batch * seq, out]
        return flat.view(*x.shape[:-1], -1)


class NewGELUActivation(nn.Module):
    """The tanh approximation of GELU (Hendrycks & Gimpel, 2016), with which GPT-2 was trained."""

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate="tanh")


_ACTIVATION_MODULES: dict[str, Callable[[], nn.Module]] = {
    "gelu_new": NewGELUActivation,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class GPT2Attention(nn.Module):
    """Causal self-attention, all heads at once."""

    def __init__(self, config: GPT2Config, layer_idx: int) -> None:
        super().__init__()
        self.n_head, self.head_dim = config.n_head, config.head_dim
        self.scale = 1.0
        if config.scale_attn_weights:
            self.scale /= math.sqrt(config.head_dim)
        if config.scale_attn_by_inverse_layer_idx:
            self.scale /= layer_idx + 1
        self.reorder_and_upcast_attn = config.reorder_and_upcast_attn

        self.c_attn = Conv1D(3 * config.n_embd, config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)
        self.attn_dropout = nn.Dropout(config.attn_pdrop)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def split_heads(self, x: Tensor) -> Tensor:
        batch, seq, _ = x.shape
        return x.view(batch, seq, self.n_head, self.head_dim).transpose(1, 2)  # [batch, n_head, seq, head_dim]

    def merge_heads(self, x: Tensor) -> Tensor:
        batch, _, seq, _ = x.shape
        return x.transpose(1, 2).reshape(batch, seq, self.n_head * self.head_dim)  # [batch, seq, n_embd]

    def softmax(self, scores: Tensor) -> Tensor:
        """Softmax over the keys, [batch, n_head, seq, total]."""
        return F.softmax(scores, dim=-1)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, head_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The weighted values [batch, n_head, seq, head_dim] and the weights [batch, n_head, seq, total]."""
        if self.reorder_and_upcast_attn:  # scores in float32, scaled before the product (Stanford CRFM's Mistral)
            with torch.autocast(query.device.type, enabled=False):
                scores = (query.float() * self.scale) @ key.float().transpose(-1, -2)
        else:
            scores = query @ key.transpose(-1, -2) * self.scale  # [batch, n_head, seq, total]
        if attention_mask is not None:
            scores = scores + attention_mask

        # Query i is at position past + i. It attends to the keys at positions 0 to past + i.
        seq, total = scores.shape[-2:]
        visible = torch.ones(seq, total, dtype=torch.bool, device=scores.device).tril(total - seq)
        scores = torch.where(visible, scores, torch.finfo(scores.dtype).min)

        weights = self.softmax(scores).type(value.dtype)
        weights = self.attn_dropout(weights)
        if head_mask is not None:
            weights = weights * head_mask
        return weights @ value, weights

    def forward(
        self,
        hidden_states: Tensor,
        layer_past: LayerPast | None = None,
        attention_mask: Tensor | None = None,
        head_mask: Tensor | None = None,
    ) -> tuple[Tensor, LayerPast, Tensor]:
        query, key, value = self.c_attn(hidden_states).chunk(3, dim=-1)  # each [batch, seq, n_embd]
        query, key, value = self.split_heads(query), self.split_heads(key), self.split_heads(value)
        if layer_past is not None:
            key = torch.cat((layer_past[0], key), dim=-2)  # [batch, n_head, total, head_dim]
            value = torch.cat((layer_past[1], value), dim=-2)
        z, weights = self.attend(query, key, value, attention_mask, head_mask)
        out = self.resid_dropout(self.c_proj(self.merge_heads(z)))  # [batch, seq, n_embd]
        return out, (key, value), weights


class GPT2MLP(nn.Module):
    """Two linear layers with an activation between them, applied to each position."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.c_fc = Conv1D(config.inner_size, config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.inner_size)
        self.act = _ACTIVATION_MODULES[ACTIVATIONS[config.activation_function]]()
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, hidden_states: Tensor) -> Tensor:
        hidden_states = self.act(self.c_fc(hidden_states))  # [batch, seq, inner]
        return self.dropout(self.c_proj(hidden_states))  # type: ignore[no-any-return]  # [batch, seq, n_embd]


class GPT2Block(nn.Module):
    """Attention, then the MLP. Each reads the normalized residual stream and adds its output to it."""

    def __init__(self, config: GPT2Config, layer_idx: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = GPT2Attention(config, layer_idx)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = GPT2MLP(config)

    def forward(
        self,
        hidden_states: Tensor,
        layer_past: LayerPast | None = None,
        attention_mask: Tensor | None = None,
        head_mask: Tensor | None = None,
    ) -> tuple[Tensor, LayerPast, Tensor]:
        """
        hidden_states: [batch, seq, n_embd].
        layer_past: this layer's cached keys and values, each [batch, n_head, past, head_dim].
        attention_mask: added to the scores, [batch, 1, 1, total]: 0 for a visible key, else the dtype's minimum.
        head_mask: multiplied with the attention weights, [1, n_head, 1, 1].

        Returns the new hidden states, the keys and values of all `total` positions, and the attention weights
        [batch, n_head, seq, total].
        """
        attn_out, present, weights = self.attn(self.ln_1(hidden_states), layer_past, attention_mask, head_mask)
        hidden_states = hidden_states + attn_out
        hidden_states = hidden_states + self.mlp(self.ln_2(hidden_states))
        return hidden_states, present, weights


class GPT2Model(nn.Module):
    """The transformer without its head: token ids in, hidden states out."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(GPT2Block(config, layer_idx) for layer_idx in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        initialize(self, config)

    def get_head_mask(self, head_mask: Tensor | None, n_layer: int) -> Sequence[Tensor | None]:
        """One mask per layer, [1, n_head, 1, 1], from None, [n_head] or [n_layer, n_head]."""
        if head_mask is None:
            return [None] * n_layer
        per_layer = head_mask.expand(n_layer, -1)  # [n_layer, n_head]
        return list(per_layer[:, None, :, None, None].to(self.wte.weight.dtype))

    def get_attention_mask(self, attention_mask: Tensor | None) -> Tensor | None:
        """The additive mask [batch, 1, 1, total] of a mask of ones and zeros [batch, total]."""
        if attention_mask is None or attention_mask.dim() == 4:
            return attention_mask
        dtype = self.wte.weight.dtype
        return (1 - attention_mask[:, None, None, :].to(dtype)) * torch.finfo(dtype).min

    def forward(
        self,
        input_ids: Tensor | None = None,
        past_key_values: Sequence[LayerPast | None] | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> GPT2ModelOutput | tuple[Any, ...]:
        """Run all blocks.

        input_ids: [batch, seq]. inputs_embeds: [batch, seq, n_embd], instead of input_ids.
        past_key_values: returned by an earlier call, whose tokens come before these.
        attention_mask: [batch, past + seq], 1 for a token and 0 for padding.
        position_ids: [batch, seq] or [1, seq]. Default: past to past + seq - 1, also for padded batches.
        head_mask: [n_head] or [n_layer, n_head], 1 keeps a head and 0 removes it.

        Raises `ContextLengthError` past `n_positions`, and `ValueError` if both inputs or neither are given.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give input_ids or inputs_embeds: one of them, not both")
        if inputs_embeds is None:
            inputs_embeds = self.wte(input_ids)  # [batch, seq, n_embd]
        if position_ids is None:
            past = past_key_values[0][0].size(-2) if past_key_values and past_key_values[0] else 0
            total = past + inputs_embeds.size(1)
            if total > self.config.n_positions:
                raise ContextLengthError(
                    f"{total} tokens do not fit in the model's {self.config.n_positions} positions"
                )
            position_ids = torch.arange(past, total, device=inputs_embeds.device).unsqueeze(0)  # [1, seq]

        hidden_states = self.drop(inputs_embeds + self.wpe(position_ids))  # [batch, seq, n_embd]

        mask = self.get_attention_mask(attention_mask)
        head_masks = self.get_head_mask(head_mask, self.config.n_layer)
        pasts = past_key_values if past_key_values is not None else [None] * self.config.n_layer
        presents: PastKeyValues = ()
        all_hidden_states: tuple[Tensor, ...] = ()
        all_weights: tuple[Tensor, ...] = ()
        for block, layer_past, layer_head_mask in zip(self.h, pasts, head_masks, strict=True):
            all_hidden_states += (hidden_states,) if output_hidden_states else ()
            hidden_states, present, weights = block(hidden_states, layer_past, mask, layer_head_mask)
            presents += (present,)
            all_weights += (weights,) if output_attentions else ()
        hidden_states = self.ln_f(hidden_states)

        use_cache = self.config.use_cache if use_cache is None else use_cache
        output = GPT2ModelOutput(
            last_hidden_state=hidden_states,
            past_key_values=presents if use_cache else None,
            hidden_states=(*all_hidden_states, hidden_states) if output_hidden_states else None,
            attentions=all_weights if output_attentions else None,
        )
        return output if return_dict else output.to_tuple()


class GPT2LMHeadModel(nn.Module):
    """GPT-2 with its head: token ids in, logits out. The head and the token embedding share their weight unless
    `tie_word_embeddings` is false."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.transformer = GPT2Model(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.transformer.wte.weight
        else:
            nn.init.normal_(self.lm_head.weight, std=config.initializer_range)

    def forward(
        self,
        input_ids: Tensor | None = None,
        past_key_values: Sequence[LayerPast | None] | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> CausalLMOutput | tuple[Any, ...]:
        """Run the transformer and its head. Arguments as in `GPT2Model.forward`, and:

        labels: [batch, seq], usually the input ids. The loss is the mean cross-entropy (nats) of each next token;
            a position with label -100 is ignored.
        """
        hidden = self.transformer(
            input_ids=input_ids,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.lm_head(hidden.last_hidden_state)  # [batch, seq, vocab]
        loss = None
        if labels is not None:
            predicted = logits[:, :-1].float()  # [batch, seq - 1, vocab]
            loss = F.cross_entropy(predicted.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        output = CausalLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=hidden.past_key_values,
            hidden_states=hidden.hidden_states,
            attentions=hidden.attentions,
        )
        return output if return_dict else output.to_tuple()


def initialize(model: GPT2Model, config: GPT2Config) -> None:
    """GPT-2's initialization: normal weights. Layers that write to the residual stream are scaled by
    1 / sqrt(2 * n_layer), so that the variance of the stream does not grow with depth."""
    for name, parameter in model.named_parameters():
        if name.endswith("c_proj.weight"):
            nn.init.normal_(parameter, std=config.initializer_range / math.sqrt(2 * config.n_layer))
        elif parameter.dim() == 2:
            nn.init.normal_(parameter, std=config.initializer_range)
