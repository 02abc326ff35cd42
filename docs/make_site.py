"""Build the documentation as a site in English and French, strictly, into build/site: make site.

    python docs/make_site.py [--out build/site]

The pages of each language are first laid out in build/pages, a whole tree each, and Zensical builds both trees:

- an English page is docs/X.md, a French one docs/fr/X.md; what nobody has translated stands in the French tree in English, and says so;
- a link is written as it works in the repository; in the French tree it leads to the French page;
- ``<!-- notebook: X.ipynb -->`` becomes the notebook, ``<!-- reference: MODULE ... -->`` what the docstrings say;
- links out of docs/ become their words, as there is no such page.

Nothing on a built page comes from elsewhere: a page that loads from another place is an error, as is a link that leads nowhere.
"""

from __future__ import annotations

import argparse
import base64
import json
import posixpath
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
LANGUAGES = ("en", "fr")
ONLY_ENGLISH = "> *Cette page n'existe qu'en anglais.*"

_FENCE = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2 *$", re.M | re.S)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|object|link)\b[^>]*?"""
    r"""\b(?:src|data|href|srcset)\s*=\s*["']?(?:https?:)?//[^"'\s>]+""",
    re.I,
)
_NOT_LOADED = re.compile(r"""\brel\s*=\s*["']?(?:canonical|alternate|me|license)\b""", re.I)
_STYLE_LOADS = re.compile(r"""(?:@import\s+|url\()\s*["']?(?:https?:)?//[^"')\s]+""", re.I)


def english_pages() -> list[str]:
    """The pages of docs/, as paths from there: the French ones have the same."""
    return sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md") if path.relative_to(DOCS).parts[0] != "fr")


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Change what is not within fences."""
    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [change(text[end : fence.start()]), fence.group()]
        end = fence.end()
    return "".join([*parts, change(text[end:])])


def relinked(text: str, source: str, page: str, language: str) -> str:
    """The links of a page, written for its place in the repository, for its place in the tree of a language.

    ``source`` and ``page`` are paths from docs/ and from the tree.
    """

    def link(match: re.Match[str]) -> str:
        image, words, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match.group()
        path, mark, anchor = target.partition("#")
        there = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if there.startswith(".."):
            return words
        if language == "fr":
            there = there.removeprefix("fr/")
        return f"{image}[{words}]({posixpath.relpath(there, posixpath.dirname(page) or '.')}{mark}{anchor})"

    return outside_code(text, lambda part: _LINK.sub(link, part))


def notebook_as_markdown(path: Path, pictures: Path, before: str) -> str:
    """Cells and what came out of them; pictures go to a folder, and are linked as ``before`` + name. The notebook's title is left out."""
    book = json.loads(path.read_text(encoding="utf-8"))
    parts: list[str] = []
    for i, cell in enumerate(book["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts += [] if source.startswith("# ") else [source]
            continue
        parts.append(f"```python\n{source}\n```")
        for j, output in enumerate(cell["outputs"]):
            data = output.get("data", {})
            if output["output_type"] == "stream" and output["name"] == "stdout":
                parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
            elif "image/png" in data:
                name = f"{path.stem}-{i}-{j}.png"
                (pictures / name).write_bytes(base64.b64decode(data["image/png"]))
                parts.append(f"![{cell['metadata'].get('alt', '')}]({before}{name})")
    return "\n\n".join(parts)


def lay_out(language: str, tree: Path) -> list[str]:
    """All pages of a language, with pictures, into a folder; the paths of those that are in English for want of a translation."""
    from make_reference import reference  # beside this file; griffe takes a while

    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(DOCS / "pictures", tree / "pictures", ignore=shutil.ignore_patterns("*.json"))
    borrowed: list[str] = []
    for page in english_pages():
        source = f"fr/{page}" if language == "fr" and (DOCS / "fr" / page).exists() else page
        text = (DOCS / source).read_text(encoding="utf-8")
        if language == "fr" and source == page:
            borrowed.append(page)
            title, _, rest = text.partition("\n")
            text = f"{title}\n\n{ONLY_ENGLISH}\n{rest}"
        text = relinked(text, source, page, language)
        up = "../" * page.count("/")
        here = (DOCS / source).parent
        text = re.sub(
            r"<!-- notebook: (\S+) -->",
            lambda found: notebook_as_markdown(here / found[1], tree / "pictures", f"{up}pictures/"),  # noqa: B023  # re.sub calls it before the loop goes on
            text,
        )
        text = re.sub(r"<!-- reference: ([\w. ]+) -->", lambda found: reference(*found[1].split()), text)
        target = tree / page
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    for book in DOCS.rglob("*.ipynb"):
        place = book.relative_to(DOCS)
        if (place.parts[0] == "fr") == (language == "fr"):
            shutil.copy(book, tree / (place.relative_to("fr") if language == "fr" else place))
    return borrowed


def navigation(language: str) -> list[object]:
    """What docs/nav.toml says, as Zensical takes it. Raises ValueError where it names a page that is not there, or one twice."""
    parts = tomllib.loads((DOCS / "nav.toml").read_text(encoding="utf-8"))["part"]
    named = [page for part in parts for page in part["pages"] if page != "*"]
    left = [page for page in english_pages() if page not in named]
    wrong = sorted({page for page in named if named.count(page) > 1} | (set(named) - set(english_pages())))
    if wrong:
        raise ValueError(f"docs/nav.toml: {', '.join(wrong)}: not a page, or named twice")
    found: list[object] = []
    for part in parts:
        pages = [one for page in part["pages"] for one in (left if page == "*" else [page])]
        found.append({part[language]: pages[0] if len(pages) == 1 else pages})
    return found


def settings(language: str, tree: str, site: str) -> dict[str, object]:
    """Zensical's settings, with folders beside them; JSON is YAML."""
    palette = [
        {"scheme": scheme, "media": f"(prefers-color-scheme: {light})", "toggle": {"icon": f"lucide/{icon}", "name": name[language]}}
        for scheme, light, icon, name in (
            ("default", "light", "sun", {"en": "To dark colours", "fr": "Vers les couleurs sombres"}),
            ("slate", "dark", "moon", {"en": "To light colours", "fr": "Vers les couleurs claires"}),
        )
    ]
    return {
        "site_name": "greffon",
        "site_description": {
            "en": "Transfer learning for image classification: keep a trained CNN, grow a small new part on it.",
            "fr": "L'apprentissage par transfert pour classer des images : on garde un CNN entraîné, et l'on y greffe une petite partie.",
        }[language],
        "docs_dir": tree,
        "site_dir": site,
        "use_directory_urls": False,
        "nav": navigation(language),
        "theme": {
            "language": language,
            "font": False,
            "palette": palette,
            "icon": {"logo": "lucide/sprout"},
            "features": ["navigation.sections", "navigation.footer", "navigation.top", "content.code.copy", "toc.follow"],
        },
        "plugins": ["search"],  # "offline" would load a script of unpkg.com into every page
        "extra": {
            "generator": False,
            "alternate": [
                {"name": "English", "link": "./" if language == "en" else "../", "lang": "en"},
                {"name": "Français", "link": "./fr/" if language == "en" else "./", "lang": "fr"},
            ],
        },
        "markdown_extensions": [
            "attr_list",
            "def_list",
            "tables",
            "md_in_html",
            {"toc": {"permalink": True, "toc_depth": 3}},
            {"pymdownx.highlight": {"anchor_linenums": False}},
            "pymdownx.superfences",
        ],
        "validation": {"invalid_links": True, "invalid_link_anchors": True},
    }


def build(language: str, out: Path, work: Path) -> None:
    """One language. Raises CalledProcessError where Zensical finds a fault."""
    tree, site = work / language, work / f"{language}-site"  # Zensical writes nowhere but beside its settings
    borrowed = lay_out(language, tree)
    wanted = json.dumps(settings(language, tree.name, site.name), ensure_ascii=False, indent=1)
    (work / f"{language}.yml").write_text(wanted, encoding="utf-8")
    program = str(Path(sys.executable).with_name("zensical"))
    subprocess.run([program, "build", "--clean", "--strict", "-f", str(work / f"{language}.yml")], check=True, cwd=work)
    for page in english_pages():
        file = site / Path(page).with_suffix(".html")
        html = file.read_text(encoding="utf-8")
        file.write_text(finished(html, page, language, page in borrowed), encoding="utf-8")
    shutil.copytree(site, out if language == "en" else out / language, dirs_exist_ok=True)


def finished(html: str, page: str, language: str, borrowed: bool) -> str:
    """A built page whose language switch leads to the same page, and whose English words are called English."""
    up = "../" * page.count("/")
    place = Path(page).with_suffix(".html").as_posix()
    targets = {"en": (up if language == "en" else f"{up}../") + place, "fr": (f"{up}fr/" if language == "en" else up) + place}
    for other, target in targets.items():
        html = re.sub(rf'href="[^"]*"(\s+hreflang="{other}")', rf'href="{target}"\1', html)
    return html.replace("<article ", '<article lang="en" ', 1) if borrowed else html


def loaded_from_elsewhere(site: Path) -> Iterator[str]:
    """What pages and style sheets of a built site load from other places: the page, and the tag."""
    for path in sorted(site.rglob("*")):
        if path.suffix == ".html":
            for found in _LOADED.finditer(path.read_text(encoding="utf-8")):
                if not (found.group().startswith("<link") and _NOT_LOADED.search(found.group())):
                    yield f"{path.relative_to(site)}: {found.group()}"
        if path.suffix in (".html", ".css"):
            yield from (f"{path.relative_to(site)}: {found.group()}" for found in _STYLE_LOADS.finditer(path.read_text(encoding="utf-8")))


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--out", type=Path, default=ROOT / "build" / "site", help="the folder to write; what is there is replaced")
    out = words.parse_args().out.resolve()
    work = out.with_name(f"{out.name}-pages")
    for folder in (out, work):
        shutil.rmtree(folder, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        for language in LANGUAGES:
            build(language, out, work)
    except subprocess.CalledProcessError:
        sys.exit("the site was not built: see above")
    faults = list(loaded_from_elsewhere(out))
    if faults:
        sys.exit("pages load from elsewhere:\n" + "\n".join(faults))
    print(f"{out}: open index.html there; its search needs a server: python -m http.server -d {out}")


if __name__ == "__main__":
    main()
