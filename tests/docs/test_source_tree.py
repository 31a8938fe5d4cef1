"""The source tree in the README lists the files of the package."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "pellucid"


def listed() -> list[str]:
    """Relative paths that the README lists under `src/pellucid/`, in the order of the page."""
    block = re.search(r"^src/pellucid/\n((?: +.*\n)+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert block is not None
    found, parent = [], ""
    for line in block[1].splitlines():
        indent, rest = re.fullmatch(r"( +)(.*)", line).groups()  # type: ignore[union-attr]
        names = re.match(r"(?:[\w./]+(?:  (?=[\w.]+\.py))?)+", rest)[0].split()  # type: ignore[index]
        parent = "" if len(indent) == 2 else parent
        found += [parent + name.rstrip("/") for name in names]
        parent = names[0] if len(indent) == 2 else parent
    return found


def test_every_module_and_folder_is_listed_and_nothing_else() -> None:
    modules = {path.name for path in SOURCE.glob("*.py")} - {"__init__.py", "__main__.py"}
    packages = {str(path.parent.relative_to(SOURCE)) for path in SOURCE.rglob("__init__.py")} - {"."}
    assert sorted(listed()) == sorted(modules | packages | {"assets"})


def test_the_tree_is_listed_from_the_top_layer_to_the_bottom_one() -> None:
    from ..package.test_package import LAYERS

    rank = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
    order = [rank[name.removesuffix(".py")] for name in listed() if "/" not in name and name != "assets"]
    assert order == sorted(order, reverse=True)
