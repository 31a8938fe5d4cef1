"""Models on the Hugging Face Hub: from an id to a folder of its cache, downloading what is not there yet."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pellucid.checkpoint.folder import CONFIG_FILE, GENERATION_CONFIG_FILE, WEIGHTS_FILES, shard_names
from pellucid.checkpoint.hub_content import CachedFile, check_commit, check_etag, checked_files, discard, is_intact
from pellucid.config import GPT2Config
from pellucid.errors import CheckpointError, ConfigError, ModelNotFoundError

# Short names of models, and their ids on the Hub.
PRESET_IDS: Mapping[str, str] = {
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "distilgpt2": "distilbert/distilgpt2",
}

_TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_VOCABULARY_FILES = ("vocab.json", "merges.txt")


def fetch_model(name: str, *, revision: str | None = None, progress: bool = True) -> tuple[Path, str]:
    """Download a model. Returns its folder in the Hub's cache and the name of its weights file.

    Files that are in the cache are not downloaded again. The files are the configuration, the tokenizer, and the first
    of `WEIGHTS_FILES` that the model has, with its shards. After an interrupted download, the next call downloads the
    missing files. Without a network, or with `HF_HUB_OFFLINE=1`, only the cache is used.

    Raises `ModelNotFoundError` if there is no such model or it cannot be reached, `ConfigError` if it is not a GPT-2,
    `CheckpointError` if it has no weights that can be read.
    """
    repository = _Repository.look_up(name, revision or "main", progress)
    config_path = repository.require(CONFIG_FILE)
    GPT2Config.from_json_file(config_path)  # checked before the weights are downloaded
    repository.get(GENERATION_CONFIG_FILE)
    repository.get_tokenizer()
    for weights in WEIGHTS_FILES:
        path = repository.get(weights)
        if path is None:
            continue
        for shard in shard_names(path) if weights.endswith(".index.json") else ():
            repository.require(shard)
        return config_path.parent, weights
    if repository.unreachable is not None:
        raise repository.partly_cached("its weights are")
    raise CheckpointError(f"{repository.id} on the Hub has no weights: none of {', '.join(WEIGHTS_FILES)}")


def fetch_config(name: str, *, revision: str | None = None, progress: bool = True) -> Path:
    """The path of a model's `config.json` in the Hub's cache. Only this file is downloaded."""
    return _Repository.look_up(name, revision or "main", progress).require(CONFIG_FILE)


def fetch_tokenizer(name: str, *, revision: str | None = None, progress: bool = True) -> Path:
    """The folder of a model in the Hub's cache, with the tokenizer if the model has one. No weights are downloaded."""
    repository = _Repository.look_up(name, revision or "main", progress)
    folder = repository.require(CONFIG_FILE).parent
    repository.get_tokenizer()
    return folder


@dataclass(frozen=True)
class _Repository:
    """A model on the Hub at one revision. commit: its commit id, None if the Hub was not asked."""

    name: str
    id: str
    revision: str
    commit: str | None
    unreachable: str | None  # why nothing can be downloaded
    progress: bool

    @classmethod
    def look_up(cls, name: str, revision: str, progress: bool) -> _Repository:
        """Resolve a revision to a commit. Raises `ModelNotFoundError` if that fails and the model is not cached."""
        from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import HFValidationError

        try:
            repo_id = _repo_id(name)
            is_cached = _is_cached(repo_id, revision)
        except HFValidationError as error:
            raise ModelNotFoundError(_not_found(name, name, "it is not a valid id on the Hub")) from error
        commit: str | None = None
        unreachable: str | None = None
        if constants.HF_HUB_OFFLINE:
            unreachable = "offline mode (HF_HUB_OFFLINE) forbids downloading it"
        else:
            try:
                url = hf_hub_url(repo_id, CONFIG_FILE, revision=revision)
                found = get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
                commit = check_commit(CONFIG_FILE, found.commit_hash)
            except CheckpointError:
                raise
            except Exception as error:  # connection errors depend on the version of the Hub's client
                if not is_cached:
                    raise ModelNotFoundError(_not_found(name, repo_id, _reason(error, repo_id, revision))) from error
                unreachable = _reason(error, repo_id, revision)
        if unreachable is not None and not is_cached:
            raise ModelNotFoundError(_not_found(name, repo_id, f"it is not in the cache and {unreachable}"))
        return cls(name, repo_id, revision, commit, unreachable, progress)

    def require(self, file_name: str) -> Path:
        """As `get`, but raises an error if the file cannot be had."""
        path = self.get(file_name)
        if path is None and self.unreachable is not None:
            raise self.partly_cached(f"{file_name} is")
        if path is None:
            raise CheckpointError(f"{self.id} on the Hub has no {file_name}")
        return path

    def partly_cached(self, subject: str) -> ModelNotFoundError:
        return ModelNotFoundError(
            f"{self.id} is only partly in the Hub's cache: {subject} missing, and {self.unreachable}"
        )

    def get(self, file_name: str) -> Path | None:
        """A file of the model, downloaded if it is not in the cache. None if the model has no such file."""
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        cached = try_to_load_from_cache(self.id, file_name, revision=self.commit or self.revision)
        if isinstance(cached, str):
            return Path(cached)
        if self.unreachable is not None or cached is not None:  # the cache also records that a file does not exist
            return None
        try:
            path = self._download(file_name, self.revision)
            if self.commit is not None and path.parent.name != self.commit:  # the branch moved in the meantime
                path = self._download(file_name, self.commit)
            return path
        except LocalEntryNotFoundError as error:
            raise self._failed_download(file_name, error.__cause__ or error) from error
        except EntryNotFoundError:
            return None
        except CheckpointError:
            raise
        except Exception as error:
            if _status(error) == 404:
                return None
            raise self._failed_download(file_name, error) from error

    def get_tokenizer(self) -> None:
        """Download the files of the tokenizer. vocab.json and merges.txt are needed only without tokenizer.json."""
        for file_name in _TOKENIZER_SETTINGS:
            self.get(file_name)
        if self.get("tokenizer.json") is None:
            for file_name in _VOCABULARY_FILES:
                self.get(file_name)

    def _download(self, file_name: str, revision: str) -> Path:
        """Download a file into the cache. A file that does not match its digest is deleted, and is an error."""
        from huggingface_hub import hf_hub_download

        digest = self._digest(file_name, revision)
        with _progress_bars(shown=self.progress):
            path = Path(hf_hub_download(self.id, file_name, revision=revision, library_name="pellucid"))
        intact = is_intact(path, digest)
        if intact is None:
            warnings.warn(f"{file_name} of {self.id} has no digest on the Hub: it is not verified", stacklevel=2)
        elif not intact:
            discard(path)
            raise CheckpointError(
                f"{file_name} of {self.id} arrived damaged: its content does not match the digest {digest}. It was "
                "deleted; load the model again to download it again"
            )
        return path

    def _digest(self, file_name: str, revision: str) -> str:
        """The ETag of a file, "" if there is no such file.

        Checks the values that the Hub's client makes paths of.
        """
        from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError

        url = hf_hub_url(self.id, file_name, revision=revision)
        try:
            found = get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        except EntryNotFoundError as missing:  # the client records this in a folder named by the commit
            answer = getattr(missing, "response", None)
            commit = None if answer is None else answer.headers.get(constants.HUGGINGFACE_HEADER_X_REPO_COMMIT)
            if commit is not None:
                check_commit(file_name, commit)
            return ""
        check_commit(file_name, found.commit_hash)
        return check_etag(file_name, found.etag)

    def _failed_download(self, file_name: str, error: BaseException) -> CheckpointError:
        return CheckpointError(
            f"the download of {file_name} of {self.id} failed: {_reason(error, self.id, self.revision)}. "
            "Load it again to download the rest: complete files are kept"
        )


@contextmanager
def _progress_bars(*, shown: bool) -> Iterator[None]:
    """Disable the progress bars of the Hub's client in the block, unless they are shown."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if shown or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _repo_id(name: str) -> str:
    """The Hub's id of a name. An old cache may have a preset under its short name, which was its id."""
    full = PRESET_IDS.get(name, name)
    return name if full != name and _is_cached(name, "main") and not _is_cached(full, "main") else full


def _is_cached(repo_id: str, revision: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repo_id, CONFIG_FILE, revision=revision), str)


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _reason(error: BaseException, repo_id: str, revision: str) -> str:
    """Why a request to the Hub failed, and what the user can do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    hub = constants.ENDPOINT
    if isinstance(error, GatedRepoError):
        return f"{repo_id} is gated: accept its terms at {hub}/{repo_id}, then set HF_TOKEN or run `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return f"{hub} has no model {repo_id}, or it is private: for a private one set HF_TOKEN or run `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return f"{repo_id} on {hub} has no revision {revision}"
    status = _status(error)
    if isinstance(error, EntryNotFoundError) or status == 404:
        return f"{repo_id} on {hub} has no {CONFIG_FILE}, so it cannot be loaded"
    if isinstance(error, HfHubHTTPError) and status is not None:
        return f"{hub} answered with status {status}"
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    if status is None and not isinstance(error, OSError):
        return f"{hub} cannot be reached ({first_line})"
    return first_line


def _not_found(name: str, repo_id: str, reason: str) -> str:
    full = f" ({repo_id} on the Hub)" if repo_id != name else ""
    known = ["demo", *PRESET_IDS]
    close = difflib.get_close_matches(name, known, n=1) if name not in known else []
    hint = f" Did you mean {close[0]}?" if close else ""
    return (
        f"no model {name!r}{full} was found: {reason}.{hint} A model is the bundled demo; {', '.join(PRESET_IDS)}; "
        "a folder or a file of weights; or an id on the Hub"
    )


def cached_files(name: str, *, revision: str | None = None) -> list[CachedFile]:
    """The files of a model in the Hub's cache, each compared with its digest. Empty if the model is not cached."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config_path = try_to_load_from_cache(_repo_id(name), CONFIG_FILE, revision=revision)
    except HFValidationError:  # not a valid id on the Hub
        return []
    return checked_files(Path(config_path).parent) if isinstance(config_path, str) else []


@dataclass(frozen=True)
class CachedModel:
    """A GPT-2 in the Hub's cache. path: the folder of its newest revision. size_on_disk: bytes of all revisions."""

    id: str
    path: Path
    size_on_disk: int
    config: GPT2Config


def is_cached(name: str) -> bool:
    """Whether a model's configuration and weights are in the Hub's cache. name: an id or a short name.

    Uses no network, and does not scan the cache.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config_path = try_to_load_from_cache(_repo_id(name), CONFIG_FILE)
    except HFValidationError:  # not a valid id on the Hub
        return False
    return isinstance(config_path, str) and any((Path(config_path).parent / file).is_file() for file in WEIGHTS_FILES)


def cached_models() -> list[CachedModel]:
    """The GPT-2s with weights in the Hub's cache, sorted by id. Uses no network."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    models = []
    for repository in repositories:
        newest_first = sorted(repository.revisions, key=lambda revision: revision.last_modified, reverse=True)
        for folder in (revision.snapshot_path for revision in newest_first if repository.repo_type == "model"):
            if not any((folder / weights).is_file() for weights in WEIGHTS_FILES):
                continue
            try:
                config = GPT2Config.from_json_file(folder / CONFIG_FILE)
            except (ConfigError, OSError):
                continue  # another kind of model
            models.append(CachedModel(repository.repo_id, folder, repository.size_on_disk, config))
            break
    return sorted(models, key=lambda model: model.id)
