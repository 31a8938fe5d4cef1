"""Package structure: light imports, layers that import downwards only, the compiled extension."""

from __future__ import annotations

import ast
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pellucid
from pellucid import native

SOURCE = Path(pellucid.__file__).parent

# From bottom to top: a module may import from its own layer and those below it.
LAYERS = [
    ["errors", "extras", "json_object", "keywords", "lazy_names", "quoting", "regular_file", "whole_file"],
    ["config"],
    ["tokenizer"],
    ["checkpoint"],
    ["engine", "display"],
    ["native", "reference"],
    ["logits"],
    ["decoding"],
    ["training"],
    ["lens"],
    ["views"],
    ["engine_choice", "reports"],
    ["loaded_model"],
    ["inspectable_model"],
    ["language_model", "compat"],
    ["verification"],
    ["cli"],
]


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_pellucid_imports_neither_torch_nor_transformers() -> None:
    loaded = run_python("import sys, pellucid; print(*sys.modules)").split()
    assert not {"torch", "transformers", "numpy", "matplotlib", "pandas"}.intersection(loaded)


def test_the_tokenizer_config_and_options_need_no_torch() -> None:
    code = (
        "import sys, pellucid; pellucid.GPT2Tokenizer; pellucid.GPT2Config; pellucid.GenerationOptions; pellucid.load"
    )
    assert "torch" not in run_python(f"{code}; print(*sys.modules)").split()


@pytest.mark.needs("torch")
def test_every_public_name_is_there() -> None:
    for name in pellucid.__all__:
        assert getattr(pellucid, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = pellucid.nonsense  # type: ignore[attr-defined]


def test_a_missing_extra_is_one_clear_message() -> None:
    hide_torch = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch" or name.startswith("torch."):
            raise ModuleNotFoundError(name)
import importlib.util as util
whole = util.find_spec
util.find_spec = lambda name, package=None: None if name == "torch" else whole(name, package)
sys.meta_path.insert(0, NoTorch())
import pellucid
for use in (lambda: pellucid.GPT2LMHeadModel, lambda: pellucid.load("demo", engine="torch")):
    try:
        use()
    except pellucid.PellucidError as error:
        print(error)
print(len(pellucid.GPT2Tokenizer.bundled()))
"""
    lines = run_python(hide_torch).splitlines()
    assert lines[-1] == "50257"
    assert len(lines) == 3
    assert all('pip install "pellucid[torch]"' in line for line in lines[:2])


def test_imports_run_downwards_through_the_layers() -> None:
    rank = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
    for path in sorted(SOURCE.rglob("*.py*")):
        room = path.relative_to(SOURCE).parts[0].split(".")[0]
        if path.suffix not in (".py", ".pyi") or room in ("__init__", "__main__"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            for module in _imported(node) + _named(node):
                above = module.split(".")[1]
                assert above in rank, f"{module} has no place among the layers"
                assert rank[above] <= rank[room], f"{path.relative_to(SOURCE)} imports {module}, which stands above it"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count. Imports for type checkers do not."""
    modules = {
        path: ".".join(("pellucid", *path.relative_to(SOURCE).with_suffix("").parts)) for path in SOURCE.rglob("*.py")
    }
    graph = {name.removesuffix(".__init__"): _imports_of(path) for path, name in modules.items()}
    checked: set[str] = set()

    def follow(module: str, way: list[str]) -> None:
        assert module not in way, f"a circle of imports: {' -> '.join([*way[way.index(module) :], module])}"
        if module in checked:
            return
        for imported in graph.get(module, ()):
            follow(imported, [*way, module])
        checked.add(module)

    for module in graph:
        follow(module, [])


def _imports_of(path: Path) -> set[str]:
    """Modules of the package, without its root, that a module imports at run time."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        for name in _imported(node):
            inside = [f"{name}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            found |= set(filter(_is_module, inside))
            if not inside or not all(map(_is_module, inside)):
                found.add(name)
    return found


def _is_module(name: str) -> bool:
    path = SOURCE.joinpath(*name.split(".")[1:])
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module == "pellucid":
        names = [f"pellucid.{alias.name}" for alias in node.names if alias.name != "__version__"]
    elif isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
    else:
        names = []
    return [name for name in names if name.startswith("pellucid.")]


def _named(node: ast.AST) -> list[str]:
    """A module of the package that a string names: code can import it by that name."""
    text = node.value if isinstance(node, ast.Constant) else None
    return [text] if isinstance(text, str) and re.fullmatch(r"pellucid\.\w[\w.]*", text) else []


@pytest.mark.skipif(not native.is_built(), reason="a pure-Python build")
def test_the_extension_detects_the_cpu_features_that_the_system_reports() -> None:
    features = native.cpu_features()
    assert len(features) == len(set(features))
    cpuinfo = Path("/proc/cpuinfo")
    if platform.machine() not in ("x86_64", "aarch64") or not cpuinfo.exists():
        pytest.skip("no /proc/cpuinfo to compare with")
    flags: set[str] = set()
    for line in cpuinfo.read_text().splitlines():
        if line.startswith(("flags", "Features")):
            flags.update(line.split(":")[1].split())
    assert features
    assert set(features) <= flags
    known = {"avx2", "avx512f", "avx512_vnni", "fma", "f16c", "sse4_2", "avx_vnni", "avx512_bf16", "asimd", "asimddp"}
    assert known & flags == known & set(features)
