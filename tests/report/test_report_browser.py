"""The report in a real browser, headless Chromium: at three widths, by keyboard, for a screen reader, in print, without scripts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from greffon.report import RunReport, run_report
from reported import everything

playwright: Any = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

playwright.expect.set_options(timeout=15_000)

LONG = "a class with a very long name that does not end soon, " * 3
NAMES = ("cat", "<b>dog</b>", LONG)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> RunReport:
    return everything(tmp_path_factory.mktemp("report") / "photos", classes=NAMES, broken=(4,))


@pytest.fixture(scope="module")
def files(report: RunReport, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    for lang in ("en", "fr"):
        run_report(folder / f"{lang}.html", report, lang=lang, seconds=2.5)
    return {lang: (folder / f"{lang}.html").as_uri() for lang in ("en", "fr")}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        one = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield one
        one.close()


@pytest.fixture
def open_page(browser: Any, files: dict[str, str]) -> Iterator[Callable[..., Any]]:
    """Opens a report; faults and requests of every page are watched."""
    contexts: list[Any] = []
    faults: list[str] = []
    asked: list[str] = []

    def opened(lang: str = "en", width: int = 1400, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(files[lang])
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []
    assert {url for url in asked if not url.startswith(("data:", *files.values()))} == set()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1400])
@pytest.mark.parametrize("lang", ["en", "fr"])
def test_it_fits(open_page: Callable[..., Any], lang: str, width: int, scheme: str) -> None:
    page = open_page(lang, width, color_scheme=scheme)
    playwright.expect(page.locator(".confusion button").first).to_be_visible()
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert page.locator("html").get_attribute("lang") == lang
    beyond = page.evaluate(
        """(w) => Array.from(document.querySelectorAll("p, h1, h2, h3, li, dd, pre, figcaption, .wall img, .chart, .gmap"))
            .filter((e) => e.offsetParent && !e.closest(".scroll") && e.getBoundingClientRect().right > w + 1)
            .map((e) => e.outerHTML.slice(0, 80))""",
        width,
    )
    assert beyond == []


def test_what_is_read_stands_out_from_its_ground(open_page: Callable[..., Any]) -> None:
    """Contrast after WCAG 2.2, 1.4.3: at least 4.5 for text."""
    for scheme in ("light", "dark"):
        page = open_page(color_scheme=scheme)
        ground = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        for selector in ("body", "p.soft", "a", ".big", ".chart text", "dt"):
            of = "fill" if "chart" in selector else "color"
            colour = page.evaluate("([s, of]) => getComputedStyle(document.querySelector(s))[of]", [selector, of])
            low, high = sorted([ground, luminance(colour)])
            assert (high + 0.05) / (low + 0.05) >= 4.5, (scheme, selector)


def luminance(colour: str) -> float:
    parts = np.array([float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def focused(page: Any) -> str:
    return page.evaluate("document.activeElement.getAttribute('aria-label') || ''")


def test_the_matrix_by_keyboard(open_page: Callable[..., Any], report: RunReport) -> None:
    page = open_page()
    table = report.evaluation.confusion  # type: ignore[union-attr]  # it has one
    assert (table > 0).all(), "every cell is to have a button here"
    for _ in range(40):  # by the tabulator alone
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('.confusion') !== null"):
            break
    assert focused(page) == f"“cat” named rightly: {table[0, 0]} images"
    page.keyboard.press("ArrowRight")
    assert focused(page) == f"“cat” taken for “<b>dog</b>”: {table[0, 1]} image{'s' if table[0, 1] != 1 else ''}"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    assert focused(page).startswith("“<b>dog</b>” taken for “cat”")
    assert page.locator(".confusion button[tabindex='0']").count() == 1
    gallery = page.locator("#gallery")
    assert gallery.is_hidden()
    page.keyboard.press("Enter")
    playwright.expect(gallery).to_be_visible()
    assert gallery.locator("h3").inner_text() == focused(page)
    expected = [i for i in range(120) if report.tested.labels[i] == 1 and report.probabilities[i].argmax() == 0]
    surest = max(expected, key=lambda i: report.probabilities[i].max())
    assert gallery.locator("li").count() == len(expected) == table[1, 0]
    assert report.tested.paths[surest].name in gallery.locator("li").first.inner_text()
    page.keyboard.press("Escape")
    playwright.expect(gallery).to_be_hidden()
    page.keyboard.press("End")
    assert focused(page).endswith(f"named rightly: {table[2, 2]} images")
    page.keyboard.press("Tab")
    assert not page.evaluate("document.activeElement.closest('.confusion') !== null"), "one stop for the whole table"


def test_the_images_of_a_number_are_drawn(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.locator(".confusion button").first.click()
    canvas = page.locator("#gallery canvas").nth(1)
    playwright.expect(canvas).to_be_visible()
    page.wait_for_function(
        "() => { const c = document.querySelectorAll('#gallery canvas')[1];"
        " return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v) => v); }"
    )
    assert canvas.get_attribute("aria-label").startswith("photo ")


def test_the_map_by_keyboard_and_by_pointer(open_page: Callable[..., Any]) -> None:
    page = open_page("fr")
    stage = page.locator(".gmap-stage canvas")
    stage.scroll_into_view_if_needed()
    stage.focus()
    page.keyboard.press("ArrowRight")
    playwright.expect(page.locator(".gmap-name")).to_contain_text("photo ")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Erreurs seulement").click()
    stage.focus()
    page.keyboard.press("ArrowRight")
    playwright.expect(page.locator(".gmap-name")).to_contain_text("pris pour «")


def test_everything_has_a_name_for_screen_readers(open_page: Callable[..., Any]) -> None:
    page = open_page("fr")
    page.locator(".confusion button").first.click()
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    roles: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            roles.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    for role in ("button", "link", "image", "searchbox", "application", "grid", "region", "navigation"):
        assert roles.get(role), f"there is no {role}"
        assert all(name.strip() for name in roles[role]), (role, roles[role])
    assert {"banner", "main"} <= roles.keys()
    assert len(roles["heading"]) > 15 and len(roles["columnheader"]) > 10 and len(roles["rowheader"]) > 6
    levels = [node for node in nodes if node.get("role", {}).get("value") == "heading"]
    numbers = [next(p["value"]["value"] for p in node["properties"] if p["name"] == "level") for node in levels]
    assert numbers[0] == 1 and numbers.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(numbers)), "no level is skipped"


def test_without_scripts_it_still_reads(open_page: Callable[..., Any], report: RunReport) -> None:
    page = open_page(java_script_enabled=False)
    text = page.locator("main").inner_text()
    assert page.locator(".note").is_visible() and page.locator(".confusion button").count() == 0
    table = report.evaluation.confusion  # type: ignore[union-attr]  # it has one
    assert page.locator(".confusion td").all_inner_texts()[1:] == [str(n) if n else "" for n in table.ravel()]
    assert "Choose a number" not in text and page.locator("#gallery").is_hidden()
    for figure in (report.evaluation.accuracy, *report.evaluation.accuracy_interval):  # type: ignore[union-attr]  # as above
        assert f"{100 * figure:.1f}" in text


def test_in_print_what_only_a_screen_can_do_is_gone(open_page: Callable[..., Any]) -> None:
    page = open_page(color_scheme="dark")
    page.locator(".confusion button").first.click()
    page.emulate_media(media="print", color_scheme="dark")
    for selector in ("nav", "#gallery", ".gmap-bar", ".with-script"):
        assert page.locator(selector).first.is_hidden(), selector
    for selector in (".big", ".confusion", ".chart", ".worst img", ".drawing svg", "pre"):
        assert page.locator(selector).first.is_visible(), selector
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    paper = page.pdf(format="A4", print_background=True)
    assert paper.startswith(b"%PDF") and len(paper) > 20_000
