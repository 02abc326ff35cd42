"""Write commands.md from the commands' own help.

    python docs/make_commands.py [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from greffon.cli.main import app

PAGE = Path(__file__).parent / "commands.md"


def page() -> str:
    """The page as it should be."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="greffon"), name="greffon")
    return "\n".join(line.rstrip() for line in text.splitlines()).strip() + "\n"


if __name__ == "__main__":
    wanted = page()
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == wanted else "docs/commands.md is not up to date: make docs")
    PAGE.write_text(wanted, encoding="utf-8")
