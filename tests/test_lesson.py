"""The lesson against the program: its commands run, its figures are those that were measured, its notebook runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LESSON = sorted((DOCS / "lesson").glob("*.md"))
TRANSLATED = sorted(path.relative_to(DOCS / "fr") for path in (DOCS / "fr").rglob("*.md"))
sys.path.insert(0, str(DOCS))


def blocks(text: str) -> list[str]:
    """What a page tells to type, block by block."""
    return [textwrap.dedent(block) for block in re.findall(r"^ *```bash\n(.*?)^ *```$", text, re.M | re.S)]


def without_comments(block: str) -> list[str]:
    return [re.sub(r"\s+# .*$", "", line) for line in block.splitlines()]


def runnable(block: str) -> bool:
    """All but what installs a package or opens a notebook in a browser."""
    return not re.search(r"^pip |jupyter", block, re.M)


def run(block: str, folder: Path) -> None:
    """As a person would type it, in a folder; ``greffon`` and ``python`` are those that run this test."""
    tools = folder / "bin"
    if not tools.exists():
        tools.mkdir(parents=True)
        (tools / "greffon").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m greffon "$@"\n', encoding="utf-8")
        (tools / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
        for tool in tools.iterdir():
            tool.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    words = ["bash", "-euo", "pipefail", "-c", block]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.as_posix())
def test_a_translation_tells_to_type_the_same(page: Path) -> None:
    english, french = ((folder / page).read_text(encoding="utf-8") for folder in (DOCS, DOCS / "fr"))
    assert [without_comments(block) for block in blocks(french)] == [without_comments(block) for block in blocks(english)]
    for what in (r"^#+ ", r"!\[", r"<!-- (.*?) -->", r"^\|"):
        assert len(re.findall(what, french, re.M)) == len(re.findall(what, english, re.M)), what


def test_the_lesson_and_its_neighbours_are_translated() -> None:
    wanted = {*DOCS.glob("lesson/*.md"), *DOCS.glob("how-to/*.md"), DOCS / "index.md", DOCS / "glossary.md"}
    assert {path.relative_to(DOCS) for path in wanted} == set(TRANSLATED)


@pytest.mark.slow
@pytest.mark.parametrize("page", LESSON, ids=lambda page: page.stem)
def test_the_commands_of_the_lesson_run(page: Path, tmp_path: Path, vgg16_package: None) -> None:
    typed = [block for block in blocks(page.read_text(encoding="utf-8")) if runnable(block)]
    assert typed
    for block in typed:
        run(block, tmp_path)
    pictures = set(re.findall(r"--(?:png|svg|out) (lesson/\S+\.\w+)", "\n".join(typed)))
    assert all((tmp_path / name).stat().st_size for name in pictures)


@pytest.mark.slow
def test_the_commands_that_describe_run(tmp_path: Path) -> None:
    """Those of the page of VGG take seconds; they stand for the others in the quick tests."""
    lines = [line for block in blocks((DOCS / "lesson" / "vgg.md").read_text(encoding="utf-8")) for line in block.splitlines()]
    run("\n".join(["mkdir -p lesson", *lines]), tmp_path)
    assert (tmp_path / "lesson" / "vgg.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_table_of_vgg_is_what_describe_says(language: str) -> None:
    from greffon.jobs.describe import describe

    page = (DOCS / ("fr" if language == "fr" else ".") / "lesson" / "vgg.md").read_text(encoding="utf-8")
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `block")]
    networks = [describe(name) for name in ("vgg16", "vgg19")]
    assert len(table) == 5
    for row, first, second in zip(table, networks[0].stages, networks[1].stages, strict=True):
        stage, shape, convolutions, *weights = row
        assert stage == f"`{first.name}`"
        assert shape == " × ".join(map(str, first.shape))
        assert convolutions == ", ".join(str(sum("conv" in layer for layer in one.layers)) for one in (first, second))
        assert [int(re.sub(r"\D", "", count)) for count in weights] == [first.parameters, second.parameters]


def figures() -> list[tuple[str, str]]:
    """What was measured, as pages quote it: the page, and the words in English."""
    found: dict[str, Any] = json.loads((DOCS / "pictures" / "figures.json").read_text(encoding="utf-8"))

    def words(one: dict[str, Any]) -> str:
        low, high = one["interval"]
        return f"{100 * one['accuracy']:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f}; n = {one['n']})"

    return [
        ("why", words(found["train"])),
        ("types", words(found["adapt"]["before"])),
        ("types", words(found["adapt"]["after"])),
        ("types", f"{100 * found['cluster']['accuracy']:.1f} %"),
        ("other-networks", words(found["compare"]["vgg16"])),
        ("other-networks", words(found["compare"]["efficientnet-lite0"])),
        ("strategies", words(found["tune"])),
        ("strategies", words(found["probe"]["block4"])),
        ("strategies", words(found["probe"]["block5"])),
    ]


def test_the_figures_of_the_lesson_are_those_that_were_measured() -> None:
    for page, words in figures():
        assert words in (DOCS / "lesson" / f"{page}.md").read_text(encoding="utf-8"), (page, words)
        french = words.replace(".", ",").replace("%: ", "% : ").replace(" to ", " à ").replace("; n", " ; n")
        assert french in (DOCS / "fr" / "lesson" / f"{page}.md").read_text(encoding="utf-8"), (page, french)


def test_pictures_are_used_and_small() -> None:
    there = [path for path in (DOCS / "pictures").iterdir() if path.suffix != ".json"]
    text = "".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))
    assert all(f"pictures/{path.name})" in text for path in there)
    assert sum(path.stat().st_size for path in there) < 1_500_000


def test_the_notebooks_have_the_cells_of_the_script() -> None:
    done = subprocess.run([sys.executable, str(DOCS / "make_notebook.py"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_notebooks_have_outputs_and_no_path_of_a_machine() -> None:
    make_notebook = pytest.importorskip("make_notebook")
    for path in make_notebook.NOTEBOOKS.values():
        book = json.loads(path.read_text(encoding="utf-8"))
        code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
        assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
        assert sum("image/png" in output.get("data", {}) for cell in code for output in cell["outputs"]) == 2
        assert not any(output["output_type"] == "error" or output.get("name") == "stderr" for cell in code for output in cell["outputs"])
        assert not re.search(r"/(work|home|root|tmp)/", path.read_text(encoding="utf-8"))


def test_pictures_of_somebodys_photos_do_not_come_into_the_project() -> None:
    make_notebook = pytest.importorskip("make_notebook")
    assert make_notebook.places("") == make_notebook.NOTEBOOKS
    others = list(make_notebook.places("photos").values())
    assert len(set(others)) == 2 and not set(others) & set(make_notebook.NOTEBOOKS.values())
    ignored = subprocess.run(["git", "check-ignore", *map(str, others)], cwd=DOCS, capture_output=True, text=True, check=False)
    assert len(ignored.stdout.splitlines()) == 2 or "not a git repository" in ignored.stderr


@pytest.mark.slow
def test_the_notebook_runs_on_digits(vgg16_package: None) -> None:
    """As a reader runs it who has no photos at hand."""
    pytest.importorskip("nbclient")
    make_notebook = pytest.importorskip("make_notebook")
    book = make_notebook.run(make_notebook.notebooks()["en"], seconds=300)
    told = "".join(output.get("text", "") for cell in book.cells if cell.cell_type == "code" for output in cell.outputs)
    rows = {way: [float(word) for word in words.split()] for way, words in re.findall(r"^([a-zA-Z0-9 -]+?) {2,}([\d. ]+)$", told, re.M)}
    assert rows["images a class"] == [2, 5, 10, 20, 50]
    # Five classes: chance is 20. On digits what was taught is not worth more than nothing, and the page says so.
    for way in ("from nothing", "feature extraction", "fine-tuning", "VGG16"):
        assert rows[way][-1] > max(75, rows[way][0]), way
    assert not [cell for cell in book.cells if any(output.output_type == "error" for output in cell.get("outputs", []))]
