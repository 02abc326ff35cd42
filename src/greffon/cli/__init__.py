"""The command line: parse, call one function of ``jobs``, show."""

from greffon.cli.main import main

__all__ = ["main"]
