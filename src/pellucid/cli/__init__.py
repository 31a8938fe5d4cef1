"""The command line: `pellucid COMMAND ...`. A command imports what it needs when it runs."""

from __future__ import annotations


def main() -> None:
    """Run the `pellucid` command and exit with its status."""
    from pellucid.cli.signals import end_at_once

    end_at_once()
    from pellucid.cli.process import run

    run()
