"""The command line: `pellucid COMMAND ...`. A command imports what it needs when it runs."""

from __future__ import annotations


def main() -> None:
    """What the `pellucid` script runs."""
    from pellucid.cli.app import app
    from pellucid.cli.terminal import make_output_safe

    make_output_safe()
    app()
