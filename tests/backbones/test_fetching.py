"""Downloads against a server of this test's own: broken off and resumed, from a mirror, two at a time."""

from __future__ import annotations

import hashlib
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from greffon.backbones.catalogue import Download
from greffon.backbones.fetching import fetched, source_of
from greffon.errors import WeightsError
from greffon.progress import Silent

DATA = bytes(range(256)) * 20_000


class Server(http.server.BaseHTTPRequestHandler):
    """Serves DATA; ``breaks``: after so many bytes it hangs up, so many times; ``ranges``: whether it knows how to go on."""

    breaks: ClassVar[list[int]] = []
    ranges: ClassVar[bool] = True
    asked: ClassVar[list[str]] = []

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        Server.asked.append(f"{self.path} {wanted}".strip())
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and Server.ranges else 0
        if start >= len(DATA):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(DATA) - start))
        self.end_headers()
        end = start + Server.breaks.pop(0) if Server.breaks else len(DATA)
        self.wfile.write(DATA[start:end])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("GREFFON_OFFLINE", "GREFFON_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    Server.breaks, Server.ranges, Server.asked = [], True, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def published(url: str, data: bytes = DATA) -> Download:
    return Download(url, f"sha256:{hashlib.sha256(data).hexdigest()}", "vgg-keras-h5")


def test_what_broke_off_goes_on(server: str, tmp_path: Path) -> None:
    download = published(f"{server}/w.h5")
    Server.breaks = [1_500_000, 2_000_000]
    for came in ("1.5", "3.5"):
        with (
            pytest.raises(WeightsError, match=rf"it broke off after {came} of 5\.1 MB; the next try goes on"),
            fetched(download, tmp_path, Silent(), done=lambda: False),
        ):
            pass
    assert [file.stat().st_size for file in tmp_path.iterdir()] == [3_500_000]
    with fetched(download, tmp_path, Silent(), done=lambda: False) as path:
        assert path is not None and path.read_bytes() == DATA
    assert Server.asked == ["/w.h5", "/w.h5 bytes=1500000-", "/w.h5 bytes=3500000-"]
    assert not list(tmp_path.iterdir())


def test_a_server_that_cannot_go_on_begins_anew(server: str, tmp_path: Path) -> None:
    Server.breaks, Server.ranges = [2_000_000], False
    for _ in range(2):
        try:
            with fetched(published(f"{server}/w"), tmp_path, Silent(), done=lambda: False) as path:
                assert path is not None and path.read_bytes() == DATA
        except WeightsError:
            continue
    assert not list(tmp_path.iterdir())


def test_a_part_of_another_file_is_thrown_away(server: str, tmp_path: Path) -> None:
    download = published(f"{server}/w")
    for before in (b"x" * 1000, b"y" * (len(DATA) + 5)):
        (tmp_path / f".download-{download.hash.removeprefix('sha256:')[:32]}.part").write_bytes(before)
        with fetched(download, tmp_path, Silent(), done=lambda: False) as path:
            assert path is not None and path.read_bytes() == DATA
    with (
        pytest.raises(WeightsError, match="what came is not the published file"),
        fetched(published(f"{server}/w", b"other"), tmp_path, Silent(), done=lambda: False),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_mirror_is_asked_instead(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download = published("http://127.0.0.1:1/far/away/vgg16.h5")
    monkeypatch.setenv("GREFFON_MIRROR", f"{server}/weights/")
    assert source_of(download) == f"{server}/weights/vgg16.h5"
    with fetched(download, tmp_path, Silent(), done=lambda: False) as path:
        assert path is not None and path.read_bytes() == DATA
    assert Server.asked == ["/weights/vgg16.h5"]


_OTHER = """
import sys, time
from pathlib import Path
from greffon.backbones.catalogue import Download
from greffon.backbones.fetching import fetched
from greffon.progress import Silent
with fetched(Download(sys.argv[1], sys.argv[2], "vgg-keras-h5"), Path(sys.argv[3]), Silent(), done=lambda: False) as path:
    print("here", flush=True)
    sys.stdin.read()
    Path(sys.argv[4]).write_bytes(path.read_bytes())
"""


def test_two_processes_fetch_it_once(server: str, tmp_path: Path) -> None:
    download, folder, result = published(f"{server}/w"), tmp_path / "folder", tmp_path / "result"
    folder.mkdir()
    command = [sys.executable, "-c", _OTHER, download.url, download.hash, str(folder), str(result)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdin is not None and other.stdout.readline() == "here\n"
        got: list[Path | None] = []

        def second() -> None:
            with fetched(download, folder, Silent(), done=result.is_file) as path:
                got.append(path)

        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive() and not got  # it waits
        other.stdin.close()
        thread.join(30)
    assert got == [None] and len(Server.asked) == 1 and result.read_bytes() == DATA
    assert not list(folder.iterdir())
