"""The documentation against the program: every command is on its page, and the examples are commands that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from greffon.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").rglob("*.md")])


def commands(group: object, before: str = "") -> dict[str, set[str]]:
    """The options of every command by its name, those of groups included (``weights import``)."""
    found: dict[str, set[str]] = {}
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            found |= commands(command, f"{before}{name} ")
        else:
            found[before + name] = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    return found


COMMANDS = commands(typer.main.get_command(app))


def test_the_page_of_commands_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "make_commands.py"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_command_has_an_example_on_its_page() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^#{2,3} `greffon ([^`]+)`\n(.*?)(?=^#{2,3} |\Z)", page, re.M | re.S))
    for name in COMMANDS:
        assert f"Example: greffon {name}" in parts[name], name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_pages_tell_to_type_can_be_typed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```(?:bash|console)\n(.*?)```", text, re.S) for line in block.splitlines()]
    lines += re.findall(r"`(greffon [^`]+)`", text) + re.findall(r"^Example: (greffon .+)$", text, re.M)
    for line in lines:
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if not words or words[0] != "greffon" or len(words) < 2 or words[1] in ("[OPTIONS]", "--help", "..."):
            continue
        name = " ".join(words[1:3]) if " ".join(words[1:3]) in COMMANDS else words[1]
        groups = {command.partition(" ")[0] for command in COMMANDS if " " in command}
        assert name in COMMANDS or name in groups, line
        options = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--help"}
        assert options <= COMMANDS.get(name, options), line
