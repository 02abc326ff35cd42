"""``--ray`` on the command line: its address, and what is said where there is no Ray or no cluster."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from shards import files_of, write_folder

from greffon.cli.distributing import executor_of, with_addresses
from greffon.distributed import cluster
from greffon.distributed.cluster import connected, software
from greffon.errors import OptionError


@pytest.mark.parametrize(
    ("words", "address"),
    [
        ("embed d --ray --out o", "any"),
        ("embed d --out o --ray", "any"),
        ("predict m --ray photo.jpg", "any"),
        ("predict m --ray --json", "any"),
        ("predict m --ray a/b.jpg", "any"),
        ("predict m --ray s3://b/c", "any"),
        ("embed d --ray auto --out o", "auto"),
        ("embed d --ray local", "local"),
        ("embed d --ray head:6379", "head:6379"),
        ("embed d --ray [::1]:6379", "[::1]:6379"),
        ("embed d --ray ray://head:10001", "ray://head:10001"),
        ("embed d --ray=head:1 --out o", "head:1"),
    ],
)
def test_a_bare_option_is_told_from_one_with_an_address(
    words: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").touch()
    done = with_addresses(words.split())
    at = next(i for i, word in enumerate(done) if word.startswith("--ray"))
    assert (done[at].partition("=")[2] or done[at + 1]) == address
    plain = [word for word in words.split() if word not in ("--ray", f"--ray={address}", address)]
    assert [word for word in done if not word.startswith("--ray") and word != address] == plain


def test_what_follows_two_dashes_is_left() -> None:
    assert with_addresses(["predict", "m", "--", "--ray"]) == ["predict", "m", "--", "--ray"]


def test_no_ray_is_one_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "ray")
    with pytest.raises(OptionError, match="Ray is not installed") as raised, executor_of("any"):
        pass
    assert 'pip install "greffon[ray]"' in raised.value.hint


def test_workers_without_a_cluster_are_an_error() -> None:
    with pytest.raises(OptionError, match="--ray-workers: means nothing without --ray"), executor_of(None, 2):
        pass


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("nonsense", "is no address"),
        ("host:99999999", "is no address"),
        ("ray://head:10001", "client protocol"),
        ("127.0.0.1:{}", "no Ray cluster answers"),
    ],
)
def test_an_address_that_does_not_answer(address: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = address.format(free_port())
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(OptionError, match=f"--ray {address}: .*{told}"), connected(address):
        pass


def test_one_that_listens_and_is_silent_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(cluster, "_ASK", "import time; time.sleep(60)")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(OptionError, match="is no head of Ray's, or takes longer than 1 s"), connected(address, seconds=1):
            pass


def test_the_sources_are_a_part_of_the_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = software.__wrapped__()
    assert software() == before
    (tmp_path / "greffon" / "distributed").mkdir(parents=True)
    (tmp_path / "greffon" / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(cluster, "__file__", str(tmp_path / "greffon" / "distributed" / "cluster.py"))
    one = software.__wrapped__()
    (tmp_path / "greffon" / "a.py").write_text("x = 2\n")
    assert len({before, one, software.__wrapped__()}) == 3


def test_the_single_machine_way_imports_no_ray(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", files_of(4))
    code = (
        "import sys, greffon.cli\n"
        "from shards import write_backbone\n"
        "from pathlib import Path\n"
        f"write_backbone(Path({str(tmp_path / 'net')!r}))\n"
        f"sys.argv = ['greffon', 'embed', {str(folder)!r}, '--out', {str(tmp_path / 'f.parquet')!r}, '--backbone',"
        f" {str(tmp_path / 'net')!r}, '--precision', 'float32']\n"
        "try:\n    greffon.cli.main()\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "assert 'ray' not in sys.modules and 'greffon.distributed.pipeline' not in sys.modules\n"
    )
    here = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {[str(here), str(here.parent)]!r}\n{code}"],
                          capture_output=True, text=True, check=False, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "f.parquet").is_file()
