"""The command line: `pellucid COMMAND ...`. A command imports what it needs when it runs."""

from __future__ import annotations

import gc


def main() -> None:
    """What the `pellucid` script runs."""
    # A command makes many objects before it says anything, and hardly any garbage: looking for it can wait.
    gc.set_threshold(50_000, 20, 20)
    from pellucid.cli.app import app
    from pellucid.cli.terminal import make_output_safe

    make_output_safe()
    app()
