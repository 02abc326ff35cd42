"""The page in a real browser, headless Chromium: photos in, classes out, in two languages, by keyboard and on a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drawn import encode, photo
from greffon.images import decode
from served import CLASSES, REMEMBERED, Running, ask, expected, running, write_export, write_remembering

pytest.importorskip("onnxruntime")
pytest.importorskip("fastapi")
playwright: Any = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

playwright.expect.set_options(timeout=15_000)

PHOTO = photo(1, 60, 90)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("page")
    write_export(folder / "first", more={"conformal": [round(number / 40, 3) for number in range(1, 20)]})
    write_export(folder / "second", maps=False)
    (folder / "keys").write_text("a-key-of-this-test\n")
    with running([folder / "first", folder / "second"], folder / "log") as one:
        yield one


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    # A photo from the camera is a pattern that Chromium draws.
    options = ["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as driver:
        one = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield one
        one.close()


@pytest.fixture
def page(browser: Any, server: Running) -> Iterator[Any]:
    """A page in English, whose faults and requests are watched."""
    context = browser.new_context(locale="en-GB", permissions=["camera"])
    one = context.new_page()
    faults: list[str] = []
    asked: list[str] = []
    one.on("pageerror", lambda error: faults.append(str(error)))
    one.on("console", lambda message: faults.append(message.text) if message.type == "error" and "429" not in message.text else None)
    one.on("request", lambda request: asked.append(request.url))
    one.goto(server.url)
    playwright.expect(one.locator("#classes")).not_to_be_empty(timeout=15_000)
    yield one
    context.close()
    assert [fault for fault in faults if "422" not in fault and "401" not in fault] == []
    assert {url for url in asked if not url.startswith((server.url, "blob:"))} == set()


def verdict(page: Any, number: int = 0) -> str:
    one = page.locator(".card .verdict").nth(number)
    playwright.expect(one).not_to_have_text("Looking …", timeout=15_000)
    return one.inner_text()


def wanted(picture: bytes) -> str:
    row = expected(decode(picture))
    return f"{CLASSES[int(row.argmax())]}, {100 * row.max():.1f}%"


def test_photos_that_are_chosen(page: Any, tmp_path: Path) -> None:
    for seed in range(3):
        (tmp_path / f"photo {seed}.png").write_bytes(encode(photo(seed, 60, 90)))
    page.set_input_files("#files", [str(tmp_path / f"photo {seed}.png") for seed in range(3)])
    playwright.expect(page.locator("#status")).to_have_text("3 photos looked at", timeout=15_000)
    assert page.locator(".card").count() == 3
    for place, seed in enumerate((2, 1, 0)):  # the newest first
        assert verdict(page, place) == wanted(encode(photo(seed, 60, 90)))
    assert page.locator(".card").first.locator(".bars li").count() == 3
    name = page.locator(".bars .name").first
    assert "oiseau" not in name.inner_html() or "&lt;b&gt;" in page.locator(".bars").first.inner_html()
    assert page.locator(".card .set").first.is_visible()
    assert page.locator("#classes").inner_text() == "Knows: chat, chien, <b>oiseau</b>"


def test_a_photo_that_is_dropped_and_one_that_is_pasted(page: Any) -> None:
    for event, kind, key in (("drop", "DragEvent", "dataTransfer"), ("paste", "ClipboardEvent", "clipboardData")):
        page.evaluate(
            """([event, kind, key, bytes]) => {
                const held = new DataTransfer();
                held.items.add(new File([new Uint8Array(bytes)], `${event}.png`, { type: "image/png" }));
                const made = new window[kind](event, { bubbles: true, cancelable: true, [key]: held });
                document.getElementById("drop").dispatchEvent(made);
            }""",
            [event, kind, key, list(encode(PHOTO))],
        )
        playwright.expect(page.locator(".card figcaption").first).to_have_text(f"{event}.png")
        assert verdict(page) == wanted(encode(PHOTO))


def test_a_heat_map_lies_on_the_part_that_the_network_sees(page: Any, tmp_path: Path) -> None:
    (tmp_path / "wide.png").write_bytes(encode(photo(4, 50, 200)))
    page.set_input_files("#files", str(tmp_path / "wide.png"))
    verdict(page)
    button = page.locator(".heat")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    canvas = page.locator(".card canvas")
    playwright.expect(canvas).to_be_visible(timeout=15_000)
    assert button.get_attribute("aria-pressed") == "true"
    picture, heat = page.locator(".card img").bounding_box(), canvas.bounding_box()
    assert heat["x"] - picture["x"] == pytest.approx(0.4 * picture["width"], abs=1.5)
    assert heat["width"] == pytest.approx(0.2 * picture["width"], abs=1.5)
    assert heat["height"] == pytest.approx(0.8 * picture["height"], abs=1.5)
    alpha = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 === 3 && v).length"
    assert canvas.evaluate(alpha) > 1000
    button.click()
    playwright.expect(canvas).to_be_hidden()


def test_another_model_is_chosen_and_explains_by_occlusion(page: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(PHOTO))
    page.select_option("#model", "second")
    page.set_input_files("#files", str(tmp_path / "a.png"))
    verdict(page)
    assert page.locator(".card .set").is_hidden()
    page.locator(".heat").click()
    playwright.expect(page.locator(".card .note")).to_have_text(
        "Where covering a place makes the class less probable.", timeout=15_000
    )


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("remembering")
    photos = [photo(seed, 50, 70) for seed in REMEMBERED.values()]
    write_remembering(folder / "e", photos, [encode(one, "JPEG") for one in photos[:-1]] + [b""])
    with running([folder / "e"], folder / "log") as one:
        yield one


def test_training_photos_that_are_like_it_stand_beside_an_answer(browser: Any, remembering: Running, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(photo(2, 50, 70)))  # the third of those that were learned from
    context = browser.new_context(locale="en-GB")
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto(remembering.url)
    page.set_input_files("#files", str(tmp_path / "a.png"))
    rows = page.locator(".like li")
    playwright.expect(rows).to_have_count(5)
    assert rows.first.inner_text() == "learned as chien"
    assert rows.first.locator("img").get_attribute("alt") == "chien/<i>c</i>.jpg"
    pictures = page.locator(".like img")
    for place in range(pictures.count()):
        playwright.expect(pictures.nth(place)).to_have_js_property("naturalWidth", 70)
    assert page.locator(".doubt").is_hidden()
    page.click("#language")
    assert rows.first.inner_text() == "apprise comme chien"
    assert faults == [], "the policy of the page lets its pictures in"
    context.close()


def test_what_the_model_does_not_know_is_said(browser: Any, remembering: Running, tmp_path: Path) -> None:
    """One colour that no training photo has; the server says so, and the page shows no verdict but the nearest guess."""
    found = None
    for seed in range(12):
        picture = np.full((40, 40, 3), np.random.default_rng(seed).integers(0, 256, 3), np.uint8)
        reply = ask(remembering, "/v1/predict?abstain=0.95", encode(picture), "image/png").json["results"][0]
        if not reply["known"]:
            found = encode(picture)
    assert found
    (tmp_path / "a.png").write_bytes(found)
    context = browser.new_context(viewport={"width": 360, "height": 740}, locale="en-GB")
    page = context.new_page()
    page.goto(remembering.url)
    page.set_input_files("#files", str(tmp_path / "a.png"))
    assert verdict(page) == "I don’t know."
    best = expected(decode(found))
    told = page.locator(".doubt").inner_text()
    assert told.endswith(f"The nearest guess: {CLASSES[int(best.argmax())]}, {100 * best.max():.1f}%.")
    assert page.locator(".set").is_hidden()
    assert page.locator(".bars li").count() == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator(".heat").click()
    playwright.expect(page.locator(".card canvas")).to_be_visible(timeout=15_000)
    context.close()


def test_what_is_no_photo_is_told(page: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"this is a text")
    page.set_input_files("#files", str(tmp_path / "a.jpg"))
    assert verdict(page).startswith("The image cannot be read: not an image of a known format")
    assert page.locator(".card .heat").is_hidden()


def test_french_and_back(page: Any, browser: Any, server: Running, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(PHOTO))
    page.set_input_files("#files", str(tmp_path / "a.png"))
    verdict(page)
    page.click("#language")
    assert page.evaluate("document.documentElement.lang") == "fr"
    assert page.locator("#choose").inner_text() == "Choisir des photos"
    assert page.locator(".heat").inner_text() == "Montrer ce qui parle pour elle"
    page.click("#language")
    assert page.locator("#choose").inner_text() == "Choose photos"
    context = browser.new_context(locale="fr-CH")
    other = context.new_page()
    other.goto(server.url)
    playwright.expect(other.locator("#drop-text")).to_have_text("Déposez des photos ici, ou collez-en une.")
    assert other.evaluate("Object.keys(TEXTS.en)") == other.evaluate("Object.keys(TEXTS.fr)")
    context.close()


def test_the_camera(page: Any) -> None:
    page.click("#camera")
    playwright.expect(page.locator("#shoot")).to_be_visible(timeout=15_000)
    assert page.evaluate("document.getElementById('video').videoWidth") > 0
    page.click("#shoot")
    playwright.expect(page.locator(".card figcaption")).to_have_text("camera.png", timeout=15_000)
    assert "%" in verdict(page)
    assert page.evaluate("document.getElementById('video').srcObject") is None, "the camera is off again"


def test_the_keyboard_reaches_everything(page: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(PHOTO))
    choosers: list[Any] = []
    page.on("filechooser", lambda one: choosers.append(one))  # from the beginning: the browser is told of it in its own time
    seen = []
    for _ in range(4):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id"))
    assert seen == ["model", "language", "choose", "camera"]
    page.focus("#choose")
    page.keyboard.press("Enter")
    for _ in range(300):
        if choosers:
            break
        page.wait_for_timeout(50)
    choosers[0].set_files(str(tmp_path / "a.png"))
    verdict(page)
    playwright.expect(page.locator(".card")).to_be_focused()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "heat"
    page.keyboard.press("Space")
    playwright.expect(page.locator(".card canvas")).to_be_visible(timeout=15_000)


def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Any, server: Running, tmp_path: Path) -> None:
    (tmp_path / ("long name " * 12 + ".png")).write_bytes(encode(photo(2, 90, 40)))
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True, locale="fr-FR")
    page = context.new_page()
    page.goto(server.url)
    page.set_input_files("#files", str(next(tmp_path.iterdir())))
    playwright.expect(page.locator(".bars li").first).to_be_visible(timeout=15_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for box in [one.bounding_box() for one in page.locator("button:visible").all()]:
        assert box["height"] >= 44
    context.close()


def test_a_server_with_keys_asks_for_one(browser: Any, tmp_path: Path) -> None:
    write_export(tmp_path / "e")
    (tmp_path / "keys").write_text("a-key-of-this-test\n")
    (tmp_path / "a.png").write_bytes(encode(PHOTO))
    with running([tmp_path / "e"], tmp_path / "log", "--api-keys", tmp_path / "keys") as server:
        context = browser.new_context(locale="en-GB")
        page = context.new_page()
        page.goto(server.url)
        playwright.expect(page.locator("#key-form")).to_be_visible()
        # A question without a key that is answered late must not ask for the key again.
        late: list[Any] = []
        page.route("**/v1/models", lambda route: route.continue_() if late else late.append(route))
        page.set_input_files("#files", str(tmp_path / "a.png"))
        page.fill("#key", "a-key-of-this-test")
        page.keyboard.press("Enter")
        assert verdict(page) == wanted(encode(PHOTO))
        with page.expect_response(lambda answer: answer.url.endswith("/v1/models") and answer.ok):
            late[0].continue_()
        assert page.locator("#key-form").is_hidden()
        assert page.evaluate("localStorage.length + sessionStorage.length") == 0
        context.close()
