"""Arguments of Transformers' `from_pretrained` about where files come from, and what replaces each here."""

from __future__ import annotations

from collections.abc import Mapping

from pellucid.keywords import Unsupported

FROM_PRETRAINED: Mapping[str, Unsupported] = {
    "cache_dir": Unsupported((None,), "set the environment variable HF_HOME"),
    "force_download": Unsupported((False, None), "pellucid pull downloads what is missing or has changed"),
    "local_files_only": Unsupported((False, None), "set the environment variable HF_HUB_OFFLINE=1"),
    "proxies": Unsupported((None,), "set the environment variable HTTPS_PROXY"),
    "resume_download": Unsupported((True, False, None), "downloads are always resumed"),
    "subfolder": Unsupported((None, ""), "give the path of the folder itself"),
    "token": Unsupported((None,), "set the environment variable HF_TOKEN"),
    "trust_remote_code": Unsupported((True, False, None), "no code of a repository is ever run"),
    "use_auth_token": Unsupported((None, False), "set the environment variable HF_TOKEN"),
}

# Beside those, arguments of a model's `from_pretrained`.
MODEL_ARGUMENTS: Mapping[str, Unsupported] = {
    **FROM_PRETRAINED,
    "low_cpu_mem_usage": Unsupported((True, None), "no weight is ever held twice"),
    "use_safetensors": Unsupported((True, False, None), "files are read by what they are"),
    "attn_implementation": Unsupported((None, "eager"), "there is one attention, written out"),
    "ignore_mismatched_sizes": Unsupported((False,), "every tensor must fit the configuration"),
    "output_loading_info": Unsupported((False,), "a tensor that is missing or left over is an error"),
    "quantization_config": Unsupported((None,), "use pellucid.load(name, precision=...)"),
    "load_in_8bit": Unsupported((False, None), 'use pellucid.load(name, precision="int8")'),
    "load_in_4bit": Unsupported((False, None), 'use pellucid.load(name, precision="int4")'),
    "config": Unsupported((None,), "give the fields to change as arguments"),
    "state_dict": Unsupported((None,), "build the model with from_config, then call load_state_dict"),
    "output_attentions": Unsupported((False, None), "give it to each call of the model"),
    "output_hidden_states": Unsupported((False, None), "give it to each call of the model"),
}
