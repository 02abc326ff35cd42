"""How long work tells of itself, without knowing who listens.

The command line hands down a listener that draws bars; a library call has the silent one.
"""

from __future__ import annotations

from typing import Protocol, final

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """A listener to long work."""

    def begin(self, task: str, total: int) -> None:
        """A task of ``total`` steps begins. Tasks follow each other; they do not nest."""

    def advance(self, steps: int = 1) -> None:
        """The current task has moved on."""

    def end(self) -> None:
        """The current task is over."""

    def say(self, text: str) -> None:
        """One line worth knowing: a choice that was made, a measured figure."""

    def warn(self, text: str) -> None:
        """One line that the user should act on."""


@final
class Silent:
    """Listens to nothing, but keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def begin(self, task: str, total: int) -> None:
        pass

    def advance(self, steps: int = 1) -> None:
        pass

    def end(self) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        self.warnings.append(text)
