"""How a server begins, changes and ends: keys, slow clients, too much at once, new models, kill -TERM under load."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from drawn import encode, photo
from greffon.images import decode
from served import CLASSES, WEIGHT, Running, ask, expected, form, graph_of, running, write_export

pytest.importorskip("onnxruntime")
pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

PNG = encode(photo(1, 60, 90))


class Load:
    """Threads that ask again and again, each on one connection, and count what comes."""

    def __init__(self, server: Running, clients: int, *, body: bytes = PNG, kind: str = "image/png") -> None:
        self.answers: Counter[object] = Counter()
        self.bodies: list[bytes] = []
        self.seconds: list[float] = []
        self._server, self._body, self._kind = server, body, kind
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _ask(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._end.is_set():
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)
                try:
                    connection.connect()
                except ConnectionRefusedError:  # it has gone: nothing was accepted, nothing is lost
                    self.count("refused")
                    return
            began = time.monotonic()
            try:
                connection.request("POST", "/v1/predict", self._body, {"Content-Type": self._kind})
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.count(f"lost: {type(error).__name__}")
                connection.close()
                return
            self.count(answer.status)
            with self._lock:
                self.bodies.append(body)
                if answer.status == 200:
                    self.seconds.append(time.monotonic() - began)
            if answer.will_close:
                connection.close()
                connection = None
        if connection:
            connection.close()

    def count(self, what: object) -> None:
        with self._lock:
            self.answers[what] += 1


def test_kill_under_load_loses_no_request(tmp_path: Path) -> None:
    write_export(tmp_path / "e")
    with running([tmp_path / "e"], tmp_path / "log", "--drain", 0.4) as server, Load(server, 8) as load:
        time.sleep(0.7)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.15)
        problem = ask(server, "/readyz")
        assert problem.status == 503
        assert problem.headers["connection"] == "close"
        assert server.process.wait(20) == 0
    # Between the server's last look into the kernel's queue and the end of the socket lie microseconds, in which the kernel may let in a
    # client of whom the server never hears, and resets it. That is the likely reason of the one reset that was seen.
    # What the server had is answered, see below.
    reset = load.answers.pop("lost: ConnectionResetError", 0)
    assert reset <= 1
    assert set(load.answers) == {200, "refused"}, load.answers
    assert load.answers[200] > 20
    assert load.answers["refused"] + reset == 8
    assert not [line for line in server.logged() if line["level"] == "error"]
    answered = [line for line in server.logged() if line.get("path") == "/v1/predict" and line["status"] == 200]
    assert len(answered) == load.answers[200]


def test_a_request_that_is_still_arriving_is_answered_after_kill(tmp_path: Path) -> None:
    write_export(tmp_path / "e")
    with running([tmp_path / "e"], tmp_path / "log", "--drain", 0.1) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
            line.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(PNG))
            line.sendall(PNG[:100])
            time.sleep(0.2)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.6)
            line.sendall(PNG[100:])
            assert line.recv(100).startswith(b"HTTP/1.1 200")
        assert server.process.wait(20) == 0


def test_a_new_model_takes_over_without_a_gap(tmp_path: Path) -> None:
    folder, wanted = write_export(tmp_path / "e"), [expected(decode(PNG)), expected(decode(PNG), -WEIGHT)]
    with running([folder], tmp_path / "log") as server:
        with Load(server, 4) as load:
            time.sleep(0.2)
            write_export(folder, weight=-WEIGHT)
            server.process.send_signal(signal.SIGHUP)
            wait_for(server, "replaced")
            time.sleep(0.2)
        (folder / "export.json").write_text("{}")
        server.process.send_signal(signal.SIGHUP)
        wait_for(server, "refused")
        last = ask(server, "/v1/predict", PNG, "image/png").json["results"][0]["probabilities"]
        write_export(folder, weight=-WEIGHT)
        server.process.send_signal(signal.SIGHUP)
        wait_for(server, "unchanged")
        assert 'greffon_reloads_total{model="e",outcome="replaced"} 1.0' in ask(server, "/metrics").body.decode()
        assert server.stop() == 0
    assert set(load.answers) == {200}
    rows = [json.loads(body)["results"][0]["probabilities"] for body in load.bodies]
    kinds = Counter(min((0, 1), key=lambda which: abs(row[CLASSES[0]] - wanted[which][0])) for row in rows)
    assert min(kinds[0], kinds[1]) > 0
    assert last[CLASSES[0]] == pytest.approx(wanted[1][0], abs=1e-5)


def wait_for(server: Running, outcome: str, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if any(line.get("outcome") == outcome for line in server.logged()):
            return
        time.sleep(0.02)
    raise AssertionError(f"no model was {outcome}: {server.log.read_text()}")


def heavy_enough(seconds: float = 0.06) -> int:
    """So many convolutions that an image takes about so long on this machine."""
    import onnxruntime

    session = onnxruntime.InferenceSession(graph_of(heavy=4).SerializeToString(), providers=["CPUExecutionProvider"])
    taken = []
    for _ in range(4):
        began = time.perf_counter()
        session.run(["probabilities"], {"photo": np.zeros((1, 64, 64, 3), np.uint8)})
        taken.append(time.perf_counter() - began)
    return int(min(300, max(2, 4 * seconds / min(taken))))


def test_too_much_at_once_is_refused_and_who_is_let_in_keeps_the_deadline(tmp_path: Path) -> None:
    write_export(tmp_path / "e", heavy=heavy_enough())
    with running([tmp_path / "e"], tmp_path / "log", "--deadline", 1.5, "--batch", 4) as server:
        with Load(server, 48) as load:
            time.sleep(2.5)
        assert ask(server, "/healthz").status == 200
    assert set(load.answers) == {200, 429}, load.answers
    assert load.answers[200] > 3
    assert sum(b"out-of-time" in body for body in load.bodies) < 0.1 * load.answers[200] + 5
    assert max(load.seconds) < 1.5 + 1.0  # the client's own threads wait for a processor, too
    refused = next(json.loads(body) for body in load.bodies if b"busy" in body)
    assert "images are before yours" in refused["detail"]


def test_keys(tmp_path: Path) -> None:
    write_export(tmp_path / "e")
    (tmp_path / "keys").write_text("# ours\n0123456789abcdef0123\n\nanother-key-of-ours\n")
    with running([tmp_path / "e"], tmp_path / "log", "--api-keys", tmp_path / "keys") as server:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic 0123456789abcdef0123"}, {"X-API-Key": ""},
                        {"Authorization": "Bearer \xff\xfe"}):  # fmt: skip
            reply = ask(server, "/v1/predict", PNG, "image/png", headers=headers)
            assert (reply.status, reply.json["type"]) == (401, "urn:greffon:problem:no-key")
            assert reply.headers["www-authenticate"] == "Bearer"
        for headers in ({"Authorization": "Bearer another-key-of-ours"}, {"authorization": "bearer 0123456789abcdef0123"},
                        {"X-API-Key": "another-key-of-ours"}):  # fmt: skip
            assert ask(server, "/v1/predict", PNG, "image/png", headers=headers).status == 200
        for path in ("/", "/app.js", "/app.css", "/healthz", "/readyz"):
            assert ask(server, path).status == 200
        for path in ("/metrics", "/v1/models", "/openapi.json", "/other"):
            assert ask(server, path).status == 401
    assert "another-key" not in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_slow_clients_are_let_go_and_keep_nobody_waiting(tmp_path: Path) -> None:
    from greffon.server import ServerLimits

    write_export(tmp_path / "e")
    with running([tmp_path / "e"], tmp_path / "log") as server:
        lines = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(50)]
        for number, line in enumerate(lines):
            if number % 2:
                line.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\n")
        began = time.monotonic()
        while time.monotonic() - began < ServerLimits().headers + 2:
            for number, line in enumerate(lines):
                if number % 4 == 1:
                    try:
                        line.sendall(b"X-More: y\r\n")
                    except OSError:
                        continue
            assert ask(server, "/v1/predict", PNG, "image/png").status == 200
            time.sleep(0.5)
        for line in lines:
            with contextlib.suppress(ConnectionResetError):
                assert line.recv(10) == b""
            line.close()
        assert server.stop() == 0


def test_an_upload_that_does_not_end_is_let_go(tmp_path: Path) -> None:
    """In this process, with a short patience."""
    import asyncio

    from starlette.requests import Request

    from greffon.server.limits import ServerLimits
    from greffon.server.problems import Problem
    from greffon.server.requests import Room, read_body

    async def main() -> None:
        sent = iter([{"type": "http.request", "body": b"begin", "more_body": True}])

        async def receive() -> dict:
            try:
                return next(sent)
            except StopIteration:
                await asyncio.sleep(60)
                raise

        room = Room(10)
        request = Request({"type": "http", "method": "POST", "headers": []}, receive)
        with pytest.raises(Problem, match=r"only 5 bytes came within 0\.05 s") as stop:
            await read_body(request, ServerLimits(receive=0.05), room)
        assert (stop.value.status, room.held) == (408, 0)
        room.take(8)
        with pytest.raises(Problem, match="busy"):
            room.take(3)

    asyncio.run(main())


def test_what_cannot_be_served_is_told_before_anything_listens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_cli import call

    write_export(tmp_path / "e")
    (tmp_path / "keys").write_text("short\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for words, told in (
            (["none"], "none: cannot be read"),
            ([tmp_path], "not an export folder"),
            ([tmp_path / "e", tmp_path / "e"], "two models have the name e"),
            (["=x"], "NAME=FOLDER"),
            ([tmp_path / "e", "--port", 70000], "--port must be from 0 to 65535"),
            ([tmp_path / "e", "--port", taken.getsockname()[1]], "cannot listen on 127.0.0.1 port"),
            ([tmp_path / "e", "--host", "no such host"], "is no address"),
            ([tmp_path / "e", "--api-keys", tmp_path / "keys"], "key 1 must be 16 or more"),
            ([tmp_path / "e", "--api-keys", tmp_path / "no"], "cannot be read"),
            ([tmp_path / "e", "--deadline", 0], "deadline must be above 0"),
            ([tmp_path / "e", "--max-megapixels", 500], "max_pixels must be at most"),
        ):
            code, text = call(capsys, monkeypatch, "serve", *words)
            assert (code, told in text) == (2, True), text
            assert "Traceback" not in text


@pytest.mark.slow
def test_a_model_that_was_not_exported_is_exported_first_and_says_the_same(tmp_path: Path) -> None:
    """A drawn network's model, saved; what the server says beside what the model says."""
    from exporting_models import PHOTOS, model_of
    from greffon import load_model, save_model

    save_model(model_of(), tmp_path / "model")
    model = load_model(tmp_path / "model")
    pictures = [encode(one) for one in PHOTOS[:4]]
    wanted = model.predict([decode(one) for one in pictures]).probabilities
    environment = {"GREFFON_CACHE": str(tmp_path / "cache")}
    for _ in range(2):  # the second time from the cache
        with running([tmp_path / "model"], tmp_path / "log", environment=environment) as server:
            reply = ask(server, "/v1/predict", *form([("image", f"{n}.png", one) for n, one in enumerate(pictures)]))
            found = [[one["probabilities"][name] for name in model.classes] for one in reply.json["results"]]
            assert found == pytest.approx(wanted, abs=1e-4)
        assert len(list((tmp_path / "cache" / "exports").iterdir())) == 1
