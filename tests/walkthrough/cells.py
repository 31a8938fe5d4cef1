"""The cells of the reference walkthrough, and their output for GPT-2's 124M.

The cells were written for Transformers 4.31. Only the first line, which names the library, is changed.
"""

from __future__ import annotations

from typing import Any

CELLS: dict[str, str] = {
    "imports": """
from pellucid import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    AutoModelForCausalLM,
)
import torch
import torch.nn.functional as F
import pandas as pd
""",
    "load": """
model_name = "gpt2"

gpt2_config = AutoConfig.from_pretrained(model_name)
gpt2_tokenizer = AutoTokenizer.from_pretrained(model_name)
gpt2_model = AutoModel.from_pretrained(model_name)
gpt2_clm_model = AutoModelForCausalLM.from_pretrained(model_name)
""",
    "config": "gpt2_config",
    "model": "gpt2_model",
    "causal model": "gpt2_clm_model",
    "vocabulary": """
print(f"gpt2 tokenizer vocab size: {len(gpt2_tokenizer.vocab)}")
print(f"gpt2 tokenizer special token map: {gpt2_tokenizer.special_tokens_map}")
""",
    "padding": """
gpt2_tokenizer.padding_side = "left"
gpt2_tokenizer.pad_token = gpt2_tokenizer.eos_token
""",
    "tokenize": """
input_texts = ["long long ago, I was a boy, I love", "gpt2.drawio"]
tokenizer_out = gpt2_tokenizer(input_texts, padding=True, return_tensors="pt")
print(tokenizer_out)
""",
    "tokens": """
print(gpt2_tokenizer.convert_ids_to_tokens(tokenizer_out.input_ids[0].tolist()))
print(gpt2_tokenizer.decode(tokenizer_out.input_ids[0].tolist()))
print(gpt2_tokenizer.convert_ids_to_tokens(tokenizer_out.input_ids[1].tolist()))
print(gpt2_tokenizer.decode(tokenizer_out.input_ids[1].tolist()))
""",
    "forward": """
gpt2_model_output = gpt2_model(**tokenizer_out)
last_hidden_state = gpt2_model_output.last_hidden_state
past_key_values = gpt2_model_output.past_key_values
print(f"last_hidden_state: {last_hidden_state.shape}")
print(
    f"past_key_values: ({len(past_key_values)}, {len(past_key_values[0])}, {past_key_values[0][0].shape})"
)
""",
    "embeddings": """
token_embeds = gpt2_model.wte(tokenizer_out["input_ids"])
batch_size, seq_len = tokenizer_out["input_ids"].shape
position_ids = torch.arange(seq_len).unsqueeze(0).repeat((batch_size, 1))
position_embeds = gpt2_model.wpe(position_ids)

embeds_out = token_embeds + position_embeds
embeds_out = gpt2_model.drop(embeds_out)
""",
    "blocks": """
past_key_values = tuple([None] * gpt2_config.n_layer)
head_mask = gpt2_model.get_head_mask(None, gpt2_config.n_layer)

hidden_states = embeds_out

attent_mask = tokenizer_out["attention_mask"]
attent_mask = attent_mask[:, None, None, :]
attent_mask = attent_mask.to(hidden_states.dtype)
attent_mask = (1 - attent_mask) * torch.finfo(attent_mask.dtype).min

for i, (block, layer_past) in enumerate(zip(gpt2_model.h, past_key_values)):
    block_out = block(
        hidden_states,
        layer_past=layer_past,
        attention_mask=attent_mask,
        head_mask=head_mask[i],
    )
    hidden_states = block_out[0]

hidden_states = gpt2_model.ln_f(hidden_states)

assert (hidden_states != last_hidden_state).sum() < 1e-6
""",
    "head": """
lm_head_logits = gpt2_clm_model.lm_head(hidden_states)
lm_predicts = torch.argmax(lm_head_logits, dim=-1)

last_token_output_prob = torch.softmax(lm_head_logits[:, -1, :], -1)
sorted_ids = torch.argsort(last_token_output_prob, dim=-1, descending=True)

lm_outputs = []
for i in range(sorted_ids.size(0)):
    lm_output = {}
    lm_output["input"] = gpt2_tokenizer.decode(tokenizer_out["input_ids"][i])
    for k in range(5):
        token_id = sorted_ids[i][k]
        prob = last_token_output_prob[i][token_id]
        lm_output[f"top {k}"] = f"{gpt2_tokenizer.decode(token_id)}({100*prob:.2f}%)"
    lm_outputs.append(lm_output)
pd.DataFrame(lm_outputs)
""",
    "define greedy": """
def gpt2_causal_lm_decode(model, tokenizer, text, nsteps=5):
    input_ids = tokenizer(text, return_tensors="pt")["input_ids"]
    for _ in range(nsteps):
        out = model(input_ids=input_ids)
        logits = out.logits[:, -1, :].unsqueeze(1)
        token_id = torch.argmax(logits, dim=-1)
        input_ids = torch.concat([input_ids, token_id], dim=-1)
    return tokenizer.decode(input_ids[0])
""",
    "greedy by hand": """
gpt2_causal_lm_decode(gpt2_clm_model, gpt2_tokenizer, "long long ago, I was", 10)
""",
    "greedy by generate": """
def gpt2_causal_lm_decode_ref(model, tokenizer, text, nsteps=5):
    input_ids = tokenizer(text, padding=True, return_tensors="pt")
    outputs = model.generate(**input_ids, max_new_tokens=nsteps, do_sample=False)
    return [tokenizer.decode(output) for output in outputs]


texts = ["long long ago, I was"]
gpt2_causal_lm_decode_ref(gpt2_clm_model, gpt2_tokenizer, texts, 10)
""",
    "define beam search": """
def beam_search(model, input_ids, batch_size, beam_size, past_probs=None):
    logits = model(input_ids=input_ids).logits[:, -1, :]
    probs = F.softmax(logits, -1)
    beam_top_ids = torch.argsort(probs, -1, True)[:, :beam_size]
    beam_top_probs = torch.gather(probs, -1, beam_top_ids)

    output_ids = torch.concat(
        [input_ids.repeat_interleave(beam_size, 0), beam_top_ids.reshape(-1, 1)], dim=-1
    )

    if past_probs is None:
        past_probs = beam_top_probs.reshape(-1)
    else:
        past_probs = past_probs.repeat_interleave(beam_size, 0)
        past_probs = past_probs * beam_top_probs.reshape(-1)

    resorted_ids = past_probs.reshape(batch_size, -1).argsort(-1, True)
    resorted_ids = resorted_ids[:, :beam_size]
    past_probs = torch.gather(
        past_probs.reshape(batch_size, -1), -1, resorted_ids
    ).reshape(-1)

    output_ids = output_ids[resorted_ids.reshape(-1)]
    return output_ids, past_probs


def gpt2_causal_lm_decode_with_beam_search(model, tokenizer, text, nsteps=5, beam=3):
    input_ids = tokenizer(text, return_tensors="pt")["input_ids"]
    past_probs = None
    batch_size = input_ids.size(0)
    for _ in range(nsteps):
        input_ids, past_probs = beam_search(
            model, input_ids, batch_size, beam, past_probs
        )
    return tokenizer.decode(input_ids[0])
""",
    "beams by hand": """
gpt2_causal_lm_decode_with_beam_search(
    gpt2_clm_model, gpt2_tokenizer, "long long ago, I was", 10
)
""",
    "beams by generate": """
def gpt2_causal_lm_decode_with_beam_search_reef(model, tokenizer, text, nsteps=5):
    input_ids = tokenizer(text, padding=True, return_tensors="pt")
    outputs = model.generate(
        **input_ids, max_new_tokens=nsteps, do_sample=False, num_beams=3
    )
    return [tokenizer.decode(output) for output in outputs]


texts = ["long long ago, I was"]
gpt2_causal_lm_decode_with_beam_search_reef(gpt2_clm_model, gpt2_tokenizer, texts, 10)
""",
    "temperature": """
logits = torch.tensor([1, 2, 4], dtype=torch.float)
print(F.softmax(logits, -1))
temperature = 3
print(F.softmax(logits / temperature, -1))
""",
}

# The configuration as the walkthrough prints it, without its path and the version of Transformers.
CONFIG: dict[str, Any] = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1,
    "bos_token_id": 50256,
    "embd_pdrop": 0.1,
    "eos_token_id": 50256,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_ctx": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_inner": None,
    "n_layer": 12,
    "n_positions": 1024,
    "reorder_and_upcast_attn": False,
    "resid_pdrop": 0.1,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "use_cache": True,
    "vocab_size": 50257,
}

MODEL = """\
GPT2Model(
  (wte): Embedding(50257, 768)
  (wpe): Embedding(1024, 768)
  (drop): Dropout(p=0.1, inplace=False)
  (h): ModuleList(
    (0-11): 12 x GPT2Block(
      (ln_1): LayerNorm((768,), eps=1e-05, elementwise_affine=True)
      (attn): GPT2Attention(
        (c_attn): Conv1D()
        (c_proj): Conv1D()
        (attn_dropout): Dropout(p=0.1, inplace=False)
        (resid_dropout): Dropout(p=0.1, inplace=False)
      )
      (ln_2): LayerNorm((768,), eps=1e-05, elementwise_affine=True)
      (mlp): GPT2MLP(
        (c_fc): Conv1D()
        (c_proj): Conv1D()
        (act): NewGELUActivation()
        (dropout): Dropout(p=0.1, inplace=False)
      )
    )
  )
  (ln_f): LayerNorm((768,), eps=1e-05, elementwise_affine=True)
)"""

CAUSAL_MODEL = (
    "GPT2LMHeadModel(\n  (transformer): "
    + MODEL.replace("\n", "\n  ")
    + "\n  (lm_head): Linear(in_features=768, out_features=50257, bias=False)\n)"
)

PRINTED: dict[str, str] = {
    "vocabulary": """\
gpt2 tokenizer vocab size: 50257
gpt2 tokenizer special token map: {'bos_token': '<|endoftext|>', 'eos_token': '<|endoftext|>', \
'unk_token': '<|endoftext|>'}
""",
    "tokenize": """\
{'input_ids': tensor([[ 6511,   890,  2084,    11,   314,   373,   257,  2933,    11,   314,
          1842],
        [50256, 50256, 50256, 50256, 50256,    70,   457,    17,    13, 19334,
           952]]), 'attention_mask': tensor([[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]])}
""",
    "tokens": """\
['long', 'Ġlong', 'Ġago', ',', 'ĠI', 'Ġwas', 'Ġa', 'Ġboy', ',', 'ĠI', 'Ġlove']
long long ago, I was a boy, I love
['<|endoftext|>', '<|endoftext|>', '<|endoftext|>', '<|endoftext|>', '<|endoftext|>', \
'g', 'pt', '2', '.', 'draw', 'io']
<|endoftext|><|endoftext|><|endoftext|><|endoftext|><|endoftext|>gpt2.drawio
""",
    "forward": """\
last_hidden_state: torch.Size([2, 11, 768])
past_key_values: (12, 2, torch.Size([2, 12, 11, 64]))
""",
    "temperature": """\
tensor([0.0420, 0.1142, 0.8438])
tensor([0.1955, 0.2729, 0.5315])
""",
}
