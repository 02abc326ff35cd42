"""Markdown from docstrings, for the site: read by griffe from the source, without importing it.

    python docs/make_reference.py greffon.metrics
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

SOURCE = Path(__file__).parents[1] / "src"


@functools.cache
def _package() -> griffe.Module:
    found = griffe.load("greffon", search_paths=[str(SOURCE)])
    assert isinstance(found, griffe.Module)
    return found


def _target(found: griffe.Object | griffe.Alias) -> griffe.Object:
    return found.final_target if isinstance(found, griffe.Alias) else found


def _docstring(one: griffe.Object) -> list[griffe.DocstringSection]:
    if one.docstring is None:
        return []
    return griffe.parse_numpy(one.docstring, warnings=False)


def _signature(one: griffe.Function, name: str) -> str:
    """``name(first, *, second=1) -> result``, one parameter a line where it is long."""
    words: list[str] = []
    kinds = [parameter.kind for parameter in one.parameters]
    starred = griffe.ParameterKind.var_positional in kinds
    for parameter in one.parameters:
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is griffe.ParameterKind.keyword_only and not starred:
            words.append("*")
            starred = True
        kind = parameter.kind
        star = "*" if kind is griffe.ParameterKind.var_positional else "**" if kind is griffe.ParameterKind.var_keyword else ""
        note = f": {parameter.annotation}" if parameter.annotation else ""
        default = f" = {parameter.default}" if parameter.default is not None and not star else ""
        words.append(f"{star}{parameter.name}{note}{default}")
    result = f" -> {one.returns}" if one.returns else ""
    line = f"{name}({', '.join(words)}){result}"
    if len(line) <= 100:
        return line
    return f"{name}(\n" + "".join(f"    {word},\n" for word in words) + f"){result}"


def _items(title: str, rows: Iterator[tuple[str, str, str]]) -> Iterator[str]:
    yield f"**{title}**\n"
    for name, kind, words in rows:
        head = " : ".join(part for part in (f"`{name}`" if name else "", f"`{kind}`" if kind else "") if part)
        yield f"{head}\n\n:   {words.strip().replace(chr(10), chr(10) + '    ') or ' '}\n"


def _sections(sections: list[griffe.DocstringSection]) -> Iterator[str]:
    titles = {"parameters": "Parameters", "other parameters": "Other parameters", "attributes": "Attributes", "returns": "Returns",
              "yields": "Yields", "raises": "Raises"}  # fmt: skip
    for section in sections:
        kind = section.kind.value
        if kind == "text":
            yield f"{section.value}\n"
        elif kind in titles:
            yield from _items(titles[kind], (_row(kind, item) for item in section.value))
        elif kind == "examples":
            yield "**Examples**\n"
            for what, words in section.value:
                yield f"{words}\n" if what.value == "text" else f"```python\n{words}\n```\n"
        elif kind == "admonition":
            yield f"**{section.value.kind.capitalize()}**\n\n{section.value.contents}\n"


def _row(kind: str, item: griffe.DocstringElement) -> tuple[str, str, str]:
    name = getattr(item, "name", "")
    note = item.annotation
    if kind == "raises":
        return str(note), "", item.description
    return str(name), "" if note is None else str(note), item.description


def _one(one: griffe.Object, name: str, level: int) -> Iterator[str]:
    mark = "#" * level
    yield f"{mark} `{name}`\n"
    if isinstance(one, griffe.Function):
        yield f"```python\n{_signature(one, name.rpartition('.')[2])}\n```\n"
    elif isinstance(one, griffe.Class) and "__init__" in one.members and isinstance(one.members["__init__"], griffe.Function):
        made = one.members["__init__"]
        made.returns = None
        yield f"```python\n{_signature(made, name.rpartition('.')[2])}\n```\n"
    elif isinstance(one, griffe.Attribute) and one.value is not None:
        yield f"```python\n{name} = {one.value}\n```\n"
    yield from _sections(_docstring(one))
    if isinstance(one, griffe.Class):
        for member in one.members.values():
            if isinstance(member, griffe.Function) and member.docstring is not None and not member.name.startswith("_"):
                yield f"**`{member.name}`**\n"
                if "property" not in member.labels:
                    yield f"```python\n{_signature(member, member.name)}\n```\n"
                yield from _sections(_docstring(member))


def reference(*modules: str) -> str:
    """The public names of modules, in the order of their ``__all__``; of a module outside the face, under its own heading.

    Raises ValueError for a public name without a docstring: the reference would have an empty place.
    """
    package = _package()
    lines: list[str] = []
    for path in modules:
        module = package if path == "greffon" else package[path.removeprefix("greffon.")]
        if path != "greffon":
            lines += [f"### `{path}`\n", *_sections(_docstring(module))]
        for name in module.exports or ():
            one = _target(module[str(name)])
            if isinstance(one, (griffe.Function, griffe.Class)) and one.docstring is None:
                raise ValueError(f"{path}.{name} has no docstring")
            lines += _one(one, f"greffon.{name}" if path == "greffon" else str(name), 2 if path == "greffon" else 4)
    return "\n".join(lines)


if __name__ == "__main__":
    print(reference(*sys.argv[1:]))
