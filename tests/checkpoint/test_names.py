"""Resolution of model names, and errors for unknown names. No test uses the network (see `tests/conftest.py`)."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pellucid.checkpoint import open_checkpoint, open_config, open_tokenizer
from pellucid.errors import CheckpointError, ModelNotFoundError, TokenizerError
from pellucid.tokenizer import GPT2Tokenizer


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Any connection fails the test. The Hub's cache is empty."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty cache"))


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn offline mode off, so that only Pellucid itself can prevent a request."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.mark.usefixtures("no_network", "online")
class TestPaths:
    def test_a_folder_is_read_without_the_network(self, saved: Callable) -> None:
        folder, _ = saved()
        assert open_checkpoint(str(folder)).path == folder

    @pytest.mark.parametrize("name", ["saved", "./saved", "saved/", "../here/saved"])
    def test_a_relative_folder_is_read_without_the_network(
        self, name: str, saved: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, _ = saved()
        (tmp_path / "here").mkdir()
        shutil.move(folder, tmp_path / "here")
        monkeypatch.chdir(tmp_path / "here")
        checkpoint = open_checkpoint(name)
        assert checkpoint.name == name and checkpoint.path.resolve() == tmp_path / "here" / "saved"

    def test_a_tilde_is_the_home_folder(self, saved: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder, _ = saved()
        monkeypatch.setenv("HOME", str(tmp_path))
        assert open_checkpoint("~/saved").path == folder

    def test_demo_is_the_bundled_model_even_beside_a_folder_of_that_name(
        self, saved: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "demo").mkdir()
        (tmp_path / "package" / "assets").mkdir(parents=True)
        folder, _ = saved()
        folder.rename(tmp_path / "package" / "assets" / "demo")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("pellucid.checkpoint.opening._ASSETS", tmp_path / "package" / "assets")
        checkpoint = open_checkpoint("demo")
        assert checkpoint.path == tmp_path / "package" / "assets" / "demo" and checkpoint.name == "demo"
        assert checkpoint.tokenizer().encode("long ago") == open_tokenizer("demo").encode("long ago") == [6511, 2084]
        assert open_config("demo").n_embd == 32

    def test_a_model_folder_named_like_a_size_is_loaded(
        self, saved: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, _ = saved()
        folder.rename(tmp_path / "gpt2")
        monkeypatch.chdir(tmp_path)
        assert open_checkpoint("gpt2").config.n_embd == 32

    @pytest.mark.parametrize(
        "name", ["./nowhere", "/nowhere/at/all", "~/nowhere", "a/b/c", "weights.safetensors", "x.gguf"]
    )
    def test_a_missing_path_is_reported(self, name: str) -> None:
        with pytest.raises(ModelNotFoundError, match=f"there is no folder and no file {name}"):
            open_checkpoint(name)

    def test_a_path_object_is_never_a_model_name(self) -> None:
        with pytest.raises(ModelNotFoundError, match="there is no folder and no file demo"):
            open_checkpoint(Path("demo"))

    def test_a_file_of_no_known_kind_says_which_are(self, tmp_path: Path) -> None:
        (tmp_path / "weights.onnx").touch()
        with pytest.raises(
            CheckpointError, match=r"weights\.onnx is not a file of weights: .*\.safetensors, \.gguf, \.bin"
        ):
            open_checkpoint(tmp_path / "weights.onnx")

    def test_a_damaged_folder_is_not_looked_up_elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "mine").mkdir()
        monkeypatch.chdir(tmp_path)
        with pytest.raises(CheckpointError, match=r"mine has no config\.json"):
            open_checkpoint("mine")


@pytest.mark.usefixtures("no_network", "online")
class TestTokenizersAndConfigsAlone:
    def test_a_tokenizer_is_read_from_a_folder_without_a_model(self, tmp_path: Path) -> None:
        GPT2Tokenizer.bundled().save_pretrained(tmp_path)
        assert open_tokenizer(tmp_path).encode("long ago") == [6511, 2084]

    def test_a_folder_without_one_says_so(self, saved: Callable) -> None:
        folder, _ = saved()
        with pytest.raises(TokenizerError, match="saved has no tokenizer"):
            open_tokenizer(folder)

    def test_a_config_is_read_from_a_folder_without_weights(self, saved: Callable) -> None:
        folder, _ = saved()
        (folder / "model.safetensors").unlink()
        assert open_config(str(folder)).n_embd == 32

    def test_a_config_is_read_from_beside_a_file(self, saved: Callable) -> None:
        folder, _ = saved()
        assert open_config(folder / "model.safetensors").n_embd == 32


@pytest.mark.usefixtures("no_network")
class TestNamesOffline:
    def test_a_folder_named_like_a_size_but_without_a_model_is_not_the_model(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "gpt2").mkdir()  # like a clone of OpenAI's repository
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ModelNotFoundError, match=r"'gpt2' \(openai-community/gpt2 on the Hub\)"):
            open_checkpoint("gpt2")

    def test_an_unknown_name_lists_what_would_work(self) -> None:
        with pytest.raises(ModelNotFoundError) as caught:
            open_checkpoint("someone/something")
        message = str(caught.value)
        assert "no model 'someone/something' was found: it is not in the cache" in message
        assert "offline mode (HF_HUB_OFFLINE) forbids downloading it" in message
        assert "the bundled demo; gpt2, gpt2-medium, gpt2-large, gpt2-xl, distilgpt2; a folder" in message

    def test_a_size_names_its_id_on_the_hub(self) -> None:
        with pytest.raises(ModelNotFoundError, match=r"'gpt2-xl' \(openai-community/gpt2-xl on the Hub\) was found"):
            open_checkpoint("gpt2-xl")

    def test_a_typo_is_recognized(self) -> None:
        with pytest.raises(ModelNotFoundError, match="Did you mean gpt2-medium?"):
            open_checkpoint("gpt2-meduim")

    @pytest.mark.parametrize("name", ["", " ", "a b", "-gpt2", "a--b", "naïve", "gpt2\n"])
    def test_a_name_that_no_model_can_have(self, name: str) -> None:
        with pytest.raises(ModelNotFoundError, match="it is not a valid id on the Hub"):
            open_checkpoint(name)


class TestNamesThatLeadNowhere:
    @pytest.mark.parametrize(
        "name",
        [
            "~nosuchuser",
            "~nosuchuser/model",
            "a\0b",
            "\ud800",
            "x" * 300,
            "./" + "x/" * 3000,
            "./\x1b[2J",
            5,
            None,
            b"x",
        ],
        ids=lambda name: repr(name)[:20],
    )
    def test_an_invalid_name_is_one_short_error(self, name: object) -> None:
        with pytest.raises(ModelNotFoundError) as caught:
            open_checkpoint(name)  # type: ignore[arg-type]
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 500

    def test_a_link_to_itself_is_one_error(self, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        with pytest.raises(ModelNotFoundError, match=r"loop cannot be opened: .*symbolic links"):
            open_checkpoint(tmp_path / "loop")
