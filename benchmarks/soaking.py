"""Minutes of good and hostile requests: no 500, no leak, no worker that is stuck.

    python benchmarks/soaking.py EXPORT PHOTOS [--minutes 10] [--schemathesis benchmarks/.venv-schemathesis/bin/schemathesis]

All at one time: clients that ask for answers, heat maps and figures; clients that send photos, forms and JSON with bytes changed; clients
that send a byte now and then; clients that break off in the middle, of the request or of the answer; and schemathesis on the server's own
description. At the end the server must be as it was at its beginning: it answers at once, waits for nobody, has as many threads and open
files, little more memory, no fault in its log, and ends when it is told to. The exit code is 1 where any of that is not so.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from greffon.settings import processors
from record import record
from serving import memory_of, wait

#: Statuses that a server under such a load may give.
RIGHT = {200, 400, 404, 405, 408, 413, 415, 422, 429, 499}
#: What schemathesis looks at. That garbage is refused and good photos are not: its drawn "images" are none, so it cannot tell.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
#: Clients of each kind.
CLIENTS = {"good": 3, "changed": 3, "slow": 6, "broken": 2}


class Soak:
    """One server, those who ask it, and what they saw."""

    def __init__(self, port: int, photos: Sequence[bytes], seconds: float) -> None:
        self.port, self.photos, self.end = port, photos, time.monotonic() + seconds
        self.statuses: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._lock = threading.Lock()

    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self.end

    def count(self, kind: str, status: int | str, body: bytes = b"") -> None:
        """Keep what a client got; a status that should not be is kept with what came."""
        with self._lock:
            self.statuses[f"{kind} {status}"] += 1
            if isinstance(status, int) and status not in RIGHT and len(self.wrong) < 20:
                self.wrong.append(f"{kind}: {status} {body[:300]!r}")

    def ask(self, kind: str, path: str, body: bytes | None, content: str) -> None:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        try:
            connection.request("GET" if body is None else "POST", path, body, {"Content-Type": content} if content else {})
            answer = connection.getresponse()
            self.count(kind, answer.status, answer.read())
        except (OSError, http.client.HTTPException) as error:
            self.count(kind, type(error).__name__)
        finally:
            connection.close()

    def run(self, kind: str, client: Callable[[Soak, random.Random], None], number: int) -> None:
        """One client, until the time is up."""
        draw = random.Random(f"{kind} {number}")
        while not self.over():
            client(self, draw)


def bodies(photos: Sequence[bytes], draw: random.Random) -> tuple[bytes, str]:
    """A right body and its type, in one of the three ways."""
    way, some = draw.randrange(3), draw.choices(photos, k=draw.randint(1, 4))
    if way == 0:
        return some[0], "image/jpeg"
    if way == 1:
        return json.dumps({"images": [base64.b64encode(one).decode() for one in some]}).encode(), "application/json"
    parts = b"".join(b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' + one + b"\r\n" for one in some)
    return parts + b"--b--\r\n", "multipart/form-data; boundary=b"


def good(soak: Soak, draw: random.Random) -> None:
    """What a program or the page would send."""
    body, kind = bodies(soak.photos, draw)
    path = draw.choice(["/v1/predict", "/v1/predict?top=3&coverage=0.8", "/v1/predict", "/v1/explain", "/v1/models", "/metrics", "/"])
    if path == "/v1/explain":
        body, kind = draw.choice(soak.photos), "image/jpeg"
    soak.ask("good", path, body if path.startswith(("/v1/predict", "/v1/explain")) else None, kind)


def changed(soak: Soak, draw: random.Random) -> None:
    """A right body with bytes changed, cut out and put in; or one of the known traps."""
    body, kind = bodies(soak.photos, draw)
    if draw.random() < 0.15:
        body, kind = draw.choice([
            (b"", "image/jpeg"), (b"\x89PNG\r\n\x1a\n" + bytes(200), "image/png"), (b'{"images":' + b"[" * 50_000, "application/json"),
            (b'{"images": ["http://127.0.0.1/a.jpg"]}', "application/json"), (body, "text/plain"), (bytes(33 * 2**20), "image/jpeg"),
            (json.dumps({"images": ["aGk="] * 500}).encode(), "application/json"),
        ])  # fmt: skip
    else:
        damaged = bytearray(body)
        for _ in range(draw.randint(1, 5)):
            place = draw.randrange(min(len(damaged), 600) if draw.random() < 0.5 else len(damaged))
            damaged[place : place + draw.randrange(30)] = draw.randbytes(draw.randrange(30))
        body = bytes(damaged)
    query = draw.choice(["", "", "?top=-1", "?coverage=2", "?model=%00", "?top=999999", "?nearest=20", "?abstain=0.5"])
    soak.ask("changed", draw.choice(["/v1/predict", "/v1/explain"]) + query, body, kind)


def slow(soak: Soak, draw: random.Random) -> None:
    """A head or a body of which a few bytes come now and then; it waits until it is let go, or gives up after a minute."""
    body = draw.choice(soak.photos)
    whole = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    place, until = draw.choice([0, 30, whole.index(b"\r\n\r\n") + 4 + len(body) // 2]), time.monotonic() + 60
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", soak.port), timeout=2) as line:
        line.sendall(whole[:place])
        while not soak.over() and time.monotonic() < until:
            line.sendall(whole[place : place + 3])
            place += 3
            with contextlib.suppress(TimeoutError):
                if not line.recv(1000):
                    soak.count("slow", "let go")
                    return
        soak.count("slow", "gave up")


def broken(soak: Soak, draw: random.Random) -> None:
    """Gone in the middle of the head or the body, or before the answer has come; sometimes with a reset."""
    body = draw.choice(soak.photos)
    whole = b"POST /v1/%s HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (
        draw.choice([b"predict", b"explain"]), len(body)) + body  # fmt: skip
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", soak.port), timeout=10) as line:
        line.sendall(whole[: draw.choice([10, len(whole) // 2, len(whole) - 1, len(whole)])])
        time.sleep(draw.random() / 4)
        if draw.random() < 0.5:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, (1).to_bytes(4, sys.byteorder) + bytes(4))
        soak.count("broken", "gone")


def fuzzed(soak: Soak, tool: str, found: list[dict[str, Any]]) -> None:
    """Schemathesis, again and again, each time from another seed; what it finds."""
    url, seed = f"http://127.0.0.1:{soak.port}/openapi.json", 0
    while not soak.over():
        seed += 1
        words = [tool, "run", url, "--checks", CHECKS, "--seed", str(seed), "--max-examples", "40", "--request-timeout", "90", "--no-color"]
        with tempfile.TemporaryDirectory() as place:
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=place)
            try:
                text, _ = process.communicate(timeout=max(60.0, soak.end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                text, _ = process.communicate()
                found.append({"seed": seed, "outcome": "cut short at the end"})
                return
        tail = [line for line in text.strip().splitlines() if line.strip()][-1:]
        found.append({"seed": seed, "outcome": " ".join(tail).strip("= "), "failed": process.returncode != 0})
        if process.returncode:
            print(text[-4000:], file=sys.stderr)


@contextmanager
def server(export: Path) -> Iterator[tuple[int, subprocess.Popen[bytes], Path]]:
    """The server: its port, its process, and its log."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as stream:
            words = [sys.executable, "-m", "greffon", "serve", str(export), "--port", "0", "--deadline", "20"]
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=stream)
            try:
                assert process.stdout
                told = re.search(rb":(\d+)/", process.stdout.readline())
                if not told:
                    raise SystemExit(log.read_text())
                wait(int(told[1]))
                yield int(told[1]), process, log
            finally:
                process.kill()
                process.wait()


def state_of(process: int) -> dict[str, float]:
    """Memory, threads and open files."""
    base = Path(f"/proc/{process}")
    threads, files = (len(list((base / name).iterdir())) for name in ("task", "fd"))
    return {"mib": round(memory_of(process), 1), "threads": threads, "files": files}


def settled(port: int, process: int, before: dict[str, float], seconds: float = 100) -> tuple[dict[str, float], list[str]]:
    """The server's state when it has come to rest, and what is not as it should be."""
    until = time.monotonic() + seconds
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        after, faults = state_of(process), []
        busy = [line for line in text.splitlines() if line.startswith("greffon_queue_images{") and not line.endswith(" 0.0")]
        if busy:
            faults.append(f"images are waiting for nobody: {busy}")
        if "greffon_requests_open 1.0" not in text:  # this one
            faults.append("requests are open that nobody has sent")
        if after["files"] > before["files"] + 3:
            faults.append(f"{after['files']} files are open, {before['files']} at the beginning")
        # Pools fill when they are needed: Python's own, of JSON bodies, and the one that decodes.
        if after["threads"] > before["threads"] + min(32, processors() + 4) + processors():
            faults.append(f"{after['threads']} threads, {before['threads']} at the beginning")
        if not faults or time.monotonic() > until:
            return after, faults
        time.sleep(1)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("export", type=Path)
    arguments.add_argument("photos", type=Path)
    arguments.add_argument("--minutes", type=float, default=10)
    arguments.add_argument("--schemathesis", default="")
    arguments.add_argument("--growth", type=float, default=60, help="MiB that it may hold more after the first tenth of the time.")
    arguments.add_argument("--name", default="soaking")
    options = arguments.parse_args()
    paths = sorted(path for path in options.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[:100]
    photos, seconds = [path.read_bytes() for path in paths], 60 * options.minutes
    with server(options.export) as (port, process, log):
        warm = Soak(port, photos, 0)
        draw = random.Random(0)
        for _ in range(20):  # all threads are there, all code has run
            good(warm, draw)
        before, marks, found = state_of(process.pid), [], []
        soak = Soak(port, photos, seconds)
        kinds = {"good": good, "changed": changed, "slow": slow, "broken": broken}
        threads = [threading.Thread(target=soak.run, args=(kind, kinds[kind], number)) for kind in kinds for number in range(CLIENTS[kind])]
        if options.schemathesis:
            threads.append(threading.Thread(target=fuzzed, args=(soak, str(Path(options.schemathesis).absolute()), found)))
        for thread in threads:
            thread.start()
        while not soak.over():
            time.sleep(min(seconds / 20, max(0.0, soak.end - time.monotonic())))
            marks.append(round(memory_of(process.pid), 1))
        for thread in threads:
            thread.join()
        after, faults = settled(port, process.pid, before)
        began = time.monotonic()
        last = Soak(port, photos, 0)
        last.ask("last", "/v1/predict", photos[0], "image/jpeg")
        answer = time.monotonic() - began
        faults += soak.wrong
        faults += [f"schemathesis: {one['outcome']}" for one in found if one.get("failed")]
        if last.statuses != {"last 200": 1}:
            faults.append(f"the last good request: {dict(last.statuses)}")
        if marks[-1] - marks[len(marks) // 10] > options.growth:
            faults.append(f"memory grew from {marks[len(marks) // 10]} to {marks[-1]} MiB")
        process.terminate()
        began, code = time.monotonic(), process.wait(60)
        if code:
            faults.append(f"it ended with {code}")
        faults += [line[:300] for line in log.read_text().splitlines() if json.loads(line)["level"] == "error"][:20]
        ended = time.monotonic() - began
    figures = {"minutes": options.minutes, "statuses": dict(sorted(soak.statuses.items())), "before": before, "after": after, "mib": marks,
               "schemathesis": found, "last_answer_s": round(answer, 3), "ended_after_s": round(ended, 2), "faults": faults}  # fmt: skip
    record(options.name, figures)
    raise SystemExit(1 if faults else 0)


if __name__ == "__main__":
    main()
