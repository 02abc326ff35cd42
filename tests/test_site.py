"""The documentation as a site: it is built as ``make site`` builds it, without a fault, and loads nothing from elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

make_site = pytest.importorskip("make_site")
make_notebook = pytest.importorskip("make_notebook")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "built"
    done = subprocess.run(
        [sys.executable, str(DOCS / "make_site.py"), "--out", str(out)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class _Page(HTMLParser):
    """What a page loads and where it leads; its language, headings and pictures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.titles: list[str] = []
        self.ids: set[str] = set()
        self.pictures: list[tuple[str, str]] = []
        self.languages: dict[str, str] = {}
        self._title = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = {name: value or "" for name, value in attrs}
        self.ids.add(about.get("id", ""))
        if tag in ("html", "article") and "lang" in about:
            self.languages[tag] = about["lang"]
        if tag == "a" and "href" in about:
            self.links.append(about["href"])
        elif tag == "link" and about.get("rel") in ("stylesheet", "icon", "preload", "preconnect", "modulepreload", "manifest", "prefetch"):
            self.loaded.append(about["href"])
        elif tag == "img":
            self.pictures.append((about.get("src", ""), about.get("alt", "")))
        if tag not in ("a", "link"):
            self.loaded += [about[name] for name in ("src", "srcset", "poster", "data") if name in about]
        self._title = tag == "h1"

    def handle_data(self, data: str) -> None:
        if self._title and data.strip():
            self.titles.append(data.strip())
            self._title = False


def pages(site: Path) -> dict[str, _Page]:
    return {path.relative_to(site).as_posix(): _Page(path) for path in sorted(site.rglob("*.html"))}


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    found = pages(site)
    assert len(found) > 2 * len(make_site.english_pages())
    for name, page in found.items():
        assert page.loaded, name
        assert not [target for target in page.loaded if re.match(r"(\w+:)?//", target)], name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"""(@import|url\()\s*["']?(https?:)?//""", sheet.read_text(encoding="utf-8")), sheet
    assert not list(make_site.loaded_from_elsewhere(site))


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css?family=Roboto">',
        '<img alt="" src=http://example.org/a.png>',
        '<link href="https://fonts.example" rel="preconnect">',
        "<style>@import url(https://fonts.example/css);</style>",
    ],
    ids=["script", "style-sheet", "image", "preconnect", "import"],
)
def test_what_would_be_loaded_from_elsewhere_is_found(tmp_path: Path, tag: str) -> None:
    (tmp_path / "page.html").write_text(f'<a href="https://example.org">a link</a>{tag}', encoding="utf-8")
    assert list(make_site.loaded_from_elsewhere(tmp_path))


def test_a_link_is_no_load(tmp_path: Path) -> None:
    links = '<a href="https://example.org">a</a><link rel="canonical" href="https://example.org">'
    (tmp_path / "page.html").write_text(links, encoding="utf-8")
    assert not list(make_site.loaded_from_elsewhere(tmp_path))


def test_both_languages_have_the_same_pages_and_each_leads_to_the_other(site: Path) -> None:
    found = pages(site)
    for page in make_site.english_pages():
        name = page.removesuffix(".md") + ".html"
        english, french = found[name], found[f"fr/{name}"]
        assert (english.languages["html"], french.languages["html"]) == ("en", "fr"), page
        assert Path(site, name).parent.joinpath(_switch(english, site / name, "fr")).resolve() == (site / "fr" / name).resolve()
        assert Path(site, "fr", name).parent.joinpath(_switch(french, site / "fr" / name, "en")).resolve() == (site / name).resolve()
        translated = (DOCS / "fr" / page).exists()
        assert french.languages.get("article") == (None if translated else "en"), page


def _switch(page: _Page, path: Path, language: str) -> str:
    found = re.findall(rf'href="([^"]*)"\s+hreflang="{language}"', path.read_text(encoding="utf-8"))
    assert len(set(found)) == 1, (path, found)
    return found[0]


def test_links_and_pictures_are_there(site: Path) -> None:
    """Zensical checks links between pages; this checks what it made of them, anchors and pictures included."""
    found = pages(site)
    for name, page in found.items():
        here = (site / name).parent
        for target in page.links:
            path, _, anchor = target.partition("#")
            if re.match(r"\w+:", target) or name.endswith("404.html"):
                continue
            file = (here / path).resolve() if path else (site / name).resolve()
            file = file / "index.html" if file.is_dir() else file
            assert file.exists(), f"{name}: {target}"
            if anchor and file.suffix == ".html":
                assert anchor in found[file.relative_to(site.resolve()).as_posix()].ids, f"{name}: {target}"
        for source, alt in page.pictures:
            assert source.startswith("data:") or (here / source).exists(), f"{name}: {source}"
            assert alt or "logo" in source, f"{name}: {source} has no description"


def test_the_reference_has_every_public_name(site: Path) -> None:
    import greffon

    page = pages(site)["reference.html"]
    text = (site / "reference.html").read_text(encoding="utf-8")
    for name in greffon.__all__:
        assert f"greffon.{name}" in text and f"greffon{name.lower()}" in page.ids, name


def test_what_is_not_in_nav_toml_is_in_the_navigation_all_the_same() -> None:
    for language in make_site.LANGUAGES:
        flat = json.dumps(make_site.navigation(language))
        assert all(flat.count(f'"{page}"') == 1 for page in make_site.english_pages())


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("[a](types.md#x)", "[a](types.md#x)"),
        ("![a](../../pictures/a.png)", "![a](../pictures/a.png)"),
        ("[a](../../adapt.md)", "[a](../adapt.md)"),
        ("[a](../how-to/gpu.md)", "[a](../how-to/gpu.md)"),
        ("[a](../../../deploy/x.yaml)", "a"),
        ("[`a`](https://example.org)", "[`a`](https://example.org)"),
        ("[a](#part)", "[a](#part)"),
        ("```\n[a](../../adapt.md)\n```\n", "```\n[a](../../adapt.md)\n```\n"),
    ],
    ids=["same-folder", "picture", "only-english", "french", "outside", "address", "anchor", "in-code"],
)
def test_links_of_a_french_page(text: str, there: str) -> None:
    assert make_site.relinked(text, "fr/lesson/why.md", "lesson/why.md", "fr") == there
