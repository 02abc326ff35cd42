"""A real server process: what it answers, and what it says when something is not right."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import socket
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from drawn import encode, photo, with_orientation
from greffon.images import decode
from served import CLASSES, WEIGHT, Reply, Running, ask, expected, form, running, write_export

pytest.importorskip("onnxruntime")
pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

PHOTO = photo(1, 60, 90)
JPEG = encode(PHOTO, "JPEG")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("served")
    scores = [round(number / 40, 3) for number in range(1, 20)]
    write_export(folder / "first", more={"conformal": scores})
    write_export(folder / "second", maps=False, weight=-WEIGHT)
    options = ("--max-megapixels", 1, "--max-megabytes", 1, "--max-images", 8, "--deadline", 20)
    with running([folder / "first", f"other={folder / 'second'}"], folder / "log", *options) as one:
        yield one
        told = one.logged()
        assert one.stop() == 0
    assert not [line for line in told if line["event"] == "fault"]


def predicted(reply: Reply) -> dict[str, float]:
    assert reply.status == 200, reply.body
    return reply.json["results"][0]["probabilities"]


def close(found: dict[str, float], probabilities: np.ndarray) -> bool:
    return [found[name] for name in CLASSES] == pytest.approx(list(probabilities), abs=1e-5)


def problem(reply: Reply, status: int, kind: str, detail: str = "") -> None:
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/problem+json"
    told = reply.json
    assert told["type"] == f"urn:greffon:problem:{kind}"
    assert told["status"] == status
    assert detail in told["detail"]
    assert "x-request-id" in reply.headers


def test_every_way_to_send_a_photo_gives_the_same(server: Running) -> None:
    wanted = expected(decode(JPEG))
    name = Path("é \"x\".jpg").name
    ways = [
        ask(server, "/v1/predict", JPEG, "image/jpeg"),
        ask(server, "/v1/predict", JPEG, "application/octet-stream"),
        ask(server, "/v1/predict", JPEG, "image/png"),  # what it is, the bytes tell
        ask(server, "/v1/predict", *form([("image", name.replace('"', "%22"), JPEG)])),
        ask(server, "/v1/predict", json.dumps({"images": [base64.b64encode(JPEG).decode()]}).encode(), "application/json"),
        ask(server, "/v1/predict", json.dumps({"images": ["data:image/jpeg;base64," + base64.b64encode(JPEG).decode()]}).encode(),
            "application/json; charset=utf-8"),
    ]  # fmt: skip
    for reply in ways:
        assert close(predicted(reply), wanted)
        one = reply.json["results"][0]
        assert one["label"] == CLASSES[int(wanted.argmax())]
        assert one["probability"] == max(one["probabilities"].values()) == next(iter(one["probabilities"].values()))
    assert ways[3].json["results"][0]["name"].startswith("é ")
    assert ways[0].json["model"] == "first"


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_photo_is_seen_upright(server: Running, turn: int) -> None:
    data = with_orientation(PHOTO, "JPEG", turn)
    assert close(predicted(ask(server, "/v1/predict", data, "image/jpeg")), expected(decode(data)))


def test_many_photos_come_back_in_order_and_a_bad_one_spoils_none(server: Running) -> None:
    photos = [photo(seed, 40 + seed, 50) for seed in range(5)]
    parts = [("image", f"{number}.png", encode(one)) for number, one in enumerate(photos)]
    parts.insert(2, ("image", "bad.jpg", b"GIF89a and nothing"))
    reply = ask(server, "/v1/predict?top=2", *form(parts))
    assert reply.status == 200
    results = reply.json["results"]
    assert [one["name"] for one in results] == ["0.png", "1.png", "bad.jpg", "2.png", "3.png", "4.png"]
    assert results.pop(2)["problem"]["status"] == 422
    for one, picture in zip(results, photos, strict=True):
        wanted = expected(picture)
        assert list(one["probabilities"]) == [CLASSES[number] for number in np.argsort(-wanted)[:2]]
        assert one["probability"] == pytest.approx(wanted.max(), abs=1e-5)


def test_models_are_chosen_by_name(server: Running) -> None:
    wanted = expected(decode(JPEG), -WEIGHT)
    assert close(predicted(ask(server, "/v1/predict?model=other", JPEG, "image/jpeg")), wanted)
    told = ask(server, "/v1/models").json["models"]
    found = [(one["name"], one["default"], one["maps"], one["sets"]) for one in told]
    assert found == [("first", True, True, True), ("other", False, False, False)]
    assert told[0]["classes"] == list(CLASSES)
    problem(ask(server, "/v1/predict?model=third", JPEG, "image/jpeg"), 404, "no-such-model", "there are: first, other")


def test_sets_of_classes(server: Running) -> None:
    """19 scores of 1/40 to 19/40: with a coverage of 0.9 the 18th is the limit, by hand; none where none are carried."""
    row = expected(decode(JPEG))
    one = ask(server, "/v1/predict?coverage=0.9", JPEG, "image/jpeg").json["results"][0]
    assert one["labels"] == [CLASSES[number] for number in np.argsort(-row) if 1 - row[number] <= 18 / 40]
    assert one["unsure"] == (len(one["labels"]) != 1)
    problem(ask(server, "/v1/predict?coverage=0.96", JPEG, "image/jpeg"), 422, "wrong-parameter", "enough for 0.950")
    assert "labels" not in ask(server, "/v1/predict?model=other", JPEG, "image/jpeg").json["results"][0]
    problem(ask(server, "/v1/predict?coverage=1", JPEG, "image/jpeg"), 422, "wrong-parameter", "coverage")


def test_too_few_scores_for_the_usual_sets_are_no_fault_of_who_asks_for_none(tmp_path: Path) -> None:
    write_export(tmp_path / "e", more={"conformal": [0.1, 0.2, 0.3]})
    with running([tmp_path / "e"], tmp_path / "log") as one:
        assert "labels" not in ask(one, "/v1/predict", JPEG, "image/jpeg").json["results"][0]
        assert "labels" in ask(one, "/v1/predict?coverage=0.75", JPEG, "image/jpeg").json["results"][0]
        problem(ask(one, "/v1/predict?coverage=0.9", JPEG, "image/jpeg"), 422, "wrong-parameter", "enough for 0.750")


def test_a_class_activation_map_adds_up_to_the_score(server: Running) -> None:
    tall = encode(photo(3, 200, 50))
    told = ask(server, "/v1/explain", tall, "image/png").json
    heat = np.array(told["map"])
    assert told["method"] == "cam"
    assert heat.shape == (4, 4)
    scores = [np.array(ask(server, f"/v1/explain?label={name}", tall, "image/png").json["map"]).mean() for name in ("chat", "chien")]
    row = expected(decode(tall))
    assert scores[0] - scores[1] == pytest.approx(np.log(row[0] / row[1]), abs=1e-4)
    # 50 × 200 becomes 40 × 160, of which the middle 32 × 32 are seen.
    assert told["box"] == pytest.approx([0.1, 0.4, 0.8, 0.2])


def test_occlusion_finds_where_the_class_is(server: Running) -> None:
    """The upper left is blue and speaks, by a linear model, for a class; covering it must cost that class most."""
    picture = np.full((40, 40, 3), (124, 117, 104), np.uint8)
    picture[4:14, 4:14] = (124, 117, 255)
    told = ask(server, "/v1/explain?model=other&label=chien", encode(picture), "image/png").json
    assert told["method"] == "occlusion"
    heat = np.array(told["map"])
    assert heat.shape == (6, 6)
    assert max(divmod(int(heat.argmax()), 6)) <= 1
    assert np.abs(heat[4:, 4:]).max() < 1e-6
    problem(ask(server, "/v1/explain?label=cheval", JPEG, "image/jpeg"), 422, "wrong-parameter", "no class 'cheval'")
    problem(ask(server, "/v1/explain", *form([("image", "a", JPEG), ("image", "b", JPEG)])), 413, "too-many-images")


def bomb(width: int, height: int) -> bytes:
    """A PNG of so many pixels, all black, in few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    head = width.to_bytes(4) + height.to_bytes(4) + bytes([1, 0, 0, 0, 0])
    packed = zlib.compressobj(9)
    rows = packed.compress(bytes((width + 7) // 8 + 1) * height) + packed.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


BAD_BODIES = {
    "not an image": (b"hello, this is text", "image/jpeg", 422, "unreadable-image", "not an image of a known format"),
    "truncated": (JPEG[: len(JPEG) // 2], "image/jpeg", 422, "unreadable-image", "damaged image"),
    "nothing": (b"", "image/jpeg", 400, "no-image", "no image came"),
    "300 megapixels": (bomb(20_000, 15_000), "image/png", 413, "too-many-pixels", "limit of"),
    "2 megapixels": (bomb(2000, 1000), "image/png", 413, "too-many-pixels", "2000 × 1000 pixels, over the limit of 1,000,000"),
    "too many bytes": (bytes(2**20 + 1), "image/jpeg", 413, "too-large", "1,048,577 bytes, over the limit of 1,048,576"),
    "10,000 small images": (*form([("image", f"{n}", b"x") for n in range(10_000)]), 413, "too-many-images", "at most that many"),
    "10,000 in JSON": (json.dumps({"images": ["aGk="] * 10_000}).encode(), "application/json", 413, "too-many-images", "more than 8"),
    "wrong field": (*form([("picture", "a.jpg", JPEG)]), 400, "bad-request", "a field 'picture'"),
    "text for a file": (*form([("image", "", JPEG)]), 400, "bad-request", "holds text"),
    "a form without parts": (*form([]), 400, "no-image", "no image came"),
    "a form without its end": (form([("image", "a.jpg", JPEG)])[0][:300], "multipart/form-data; boundary=grEffOn", 400, "no-image", ""),
    "a form without boundary": (JPEG, "multipart/form-data", 400, "bad-request", "boundary"),
    "a form of other bytes": (JPEG, "multipart/form-data; boundary=x", 400, "bad-request", "damaged"),
    "an empty file": (*form([("image", "a.jpg", b"")]), 400, "no-image", "0 bytes"),
    "form of curl -d": (b"image=x", "application/x-www-form-urlencoded", 415, "wrong-type", "'application/x-www-form-urlencoded'"),
    "no type": (JPEG, "", 415, "wrong-type", "the Content-Type is ''"),
    "no JSON": (b"{", "application/json", 400, "bad-request", "the JSON is not"),
    "deep JSON": (b'{"images":' + b"[" * 100_000, "application/json", 400, "bad-request", "the JSON is not"),
    "JSON of another kind": (b'{"image": "aGk="}', "application/json", 400, "bad-request", "images: Field required"),
    "no images in JSON": (b'{"images": []}', "application/json", 400, "bad-request", "images"),
    "a number for an image": (b'{"images": [7]}', "application/json", 400, "bad-request", "images.0"),
    "not base64": (b'{"images": ["%%%"]}', "application/json", 400, "bad-request", "images.0: is not base64"),
    "base64 of text": (b'{"images": ["aGVsbG8="]}', "application/json", 422, "unreadable-image", "not an image"),
    "an address": (b'{"images": ["http://127.0.0.1:1/x.jpg"]}', "application/json", 400, "bad-request", "addresses are not fetched"),
    "an address as a field": (b'{"images": [{"url": "http://127.0.0.1:1/"}]}', "application/json", 400, "bad-request", "images.0"),
    "a data address that is not base64": (b'{"images": ["data:image/png,xx"]}', "application/json", 400, "bad-request", "must be base64"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_BODIES)
@pytest.mark.parametrize("path", ["/v1/predict", "/v1/explain"])
def test_a_bad_body_is_one_clear_problem(server: Running, name: str, path: str) -> None:
    body, kind, status, which, detail = BAD_BODIES[name]
    problem(ask(server, path, body, kind), status, which, detail)


def test_wrong_addresses_methods_and_parameters(server: Running) -> None:
    problem(ask(server, "/v2/predict"), 404, "no-such-page", "/openapi.json")
    problem(ask(server, "/../../etc/passwd"), 404, "no-such-page")
    reply = ask(server, "/v1/predict")
    problem(reply, 405, "wrong-method")
    assert reply.headers["allow"] == "POST"
    problem(ask(server, "/v1/predict?top=many", JPEG, "image/jpeg"), 422, "wrong-parameter", "top: ")
    problem(ask(server, "/v1/predict?top=-1", JPEG, "image/jpeg"), 422, "wrong-parameter", "top: ")
    problem(ask(server, "/v1/predict?coverage=nan", JPEG, "image/jpeg"), 422, "wrong-parameter", "coverage")
    problem(ask(server, "/v1/predict?model=" + "x" * 500, JPEG, "image/jpeg"), 422, "wrong-parameter", "model: ")


def test_a_body_without_a_length_that_goes_on_and_on_is_cut_off(server: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    body = (bytes(100_000) for _ in range(30))
    connection.request("POST", "/v1/predict", body, {"Content-Type": "image/jpeg"}, encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["type"] == "urn:greffon:problem:too-large"
    connection.close()


def test_an_upload_that_breaks_off_leaves_nothing_behind(server: Running) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            line.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 100000\r\n\r\n" + JPEG[:500])
    until = time.monotonic() + 5
    while sum(line.get("problem") == "client-gone" for line in server.logged()) < 5 and time.monotonic() < until:
        time.sleep(0.05)
    gone = [line for line in server.logged() if line.get("problem") == "client-gone"]
    assert len(gone) >= 5
    assert {line["status"] for line in gone} == {499}
    figures = ask(server, "/metrics").body.decode()
    assert 'greffon_queue_images{model="first"} 0.0' in figures
    assert "greffon_requests_open 1.0" in figures  # this one


def test_what_is_no_http_is_refused(server: Running) -> None:
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 600_000):
        line = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        with line, contextlib.suppress(ConnectionResetError, BrokenPipeError):
            line.sendall(garbage)
            assert b" 400 " in line.recv(100)
    assert ask(server, "/healthz").json == {"status": "ok"}


def test_health_figures_and_headers(server: Running) -> None:
    assert ask(server, "/readyz").json == {"status": "ready"}
    ask(server, "/v1/predict", JPEG, "image/jpeg")
    figures = ask(server, "/metrics").body.decode()
    for name in ('greffon_requests_total{path="/v1/predict",status="200"}', 'greffon_batch_images_count{model="first"}',
                 'greffon_images_total{model="first"}', "process_resident_memory_bytes"):  # fmt: skip
        assert name in figures
    page = ask(server, "/")
    assert page.status == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "server" not in page.headers
    assert ask(server, "/", method="HEAD").status == 200
    text = page.body.decode() + ask(server, "/app.js").body.decode() + ask(server, "/app.css").body.decode()
    assert "http" not in text, "the page must not reach for a network"
    assert "style=" not in text
    assert "onclick=" not in page.body.decode()


def test_whatever_the_bytes_there_is_an_answer_and_never_a_fault(server: Running) -> None:
    """Photos, forms and JSON with bytes changed, cut out and put in; drawn from a seed."""
    rng = np.random.default_rng(0)
    form_body, form_kind = form([("image", "a.jpg", JPEG), ("image", "b.png", encode(photo(2, 20, 30)))])
    told = json.dumps({"images": [{"name": "x", "data": base64.b64encode(JPEG).decode()}]}).encode()
    seeds = [(JPEG, "image/jpeg"), (encode(PHOTO), "image/png"), (encode(PHOTO, "WEBP"), "image/webp"),
             (encode(PHOTO, "TIFF"), "image/tiff"),
             (form_body, form_kind), (told, "application/json")]  # fmt: skip
    statuses = set()
    for number in range(120):
        body, kind = seeds[number % len(seeds)]
        changed = bytearray(body)
        for _ in range(rng.integers(1, 6)):
            place = int(rng.integers(0, min(len(changed), 400) if number % 2 else len(changed)))
            length = int(rng.integers(0, 30))
            changed[place : place + length] = rng.bytes(int(rng.integers(0, 30)))
        reply = ask(server, "/v1/predict" if number % 3 else "/v1/explain", bytes(changed), kind)
        statuses.add(reply.status)
        assert reply.status in (200, 400, 413, 415, 422), reply.body
        assert reply.json
    assert {200, 422} <= statuses


def test_the_description_tells_how_to_ask(server: Running) -> None:
    told = ask(server, "/openapi.json").json
    post = told["paths"]["/v1/predict"]["post"]
    assert {"multipart/form-data", "application/json", "image/jpeg"} <= set(post["requestBody"]["content"])
    assert {"200", "400", "413", "415", "422", "429"} <= set(post["responses"])
    for example in post["requestBody"]["content"]["application/json"]["examples"].values():
        assert ask(server, "/v1/predict", json.dumps(example["value"]).encode(), "application/json").status == 200
    text = json.dumps(told)
    for name in set(re.findall(r"#/components/schemas/(\w+)", text)):
        assert name in told["components"]["schemas"]


def test_the_process_has_no_torch(server: Running) -> None:
    maps = Path(f"/proc/{server.process.pid}/maps")
    if not maps.exists():
        pytest.skip("no /proc here")
    text = maps.read_text()
    assert "onnxruntime" in text
    assert "libtorch" not in text
    assert "/torch/" not in text


def test_the_log_has_counts_and_nothing_of_the_photos(server: Running) -> None:
    ask(server, "/v1/predict", *form([("image", "secret-name.jpg", JPEG)]), headers={"Authorization": "Bearer s3cret"})
    time.sleep(0.1)  # the line comes after the answer
    lines = server.logged()
    last = [line for line in lines if line.get("path") == "/v1/predict"][-1]
    assert (last["status"], last["images"], last["model"]) == (200, 1, "first")
    assert last["bytes"] > len(JPEG)
    text = server.log.read_text()
    assert "secret-name" not in text
    assert "s3cret" not in text
    assert "127.0.0.1" not in "".join(json.dumps(line) for line in lines if line["event"] == "request")
