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
