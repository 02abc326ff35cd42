"""A Ray cluster: reached within a time limit, and asked whether its machines are fit for the work."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import secrets
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

from greffon.errors import OptionError
from greffon.settings import processors

__all__ = ["Cluster", "connected", "import_ray", "look_around", "must_be_installed", "software"]

#: Nothing is sent to anybody, and no lines are printed between ours. Read by Ray when it is imported, and by its processes.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TQDM": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_METRICS_ENABLED": "0",  # for Prometheus
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a worker stays where it is
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # else its processes talk on the terminal; what they say of faults comes as errors
}
_HOW = "ADDRESS is HOST:PORT of a cluster's head (6379 is Ray's usual port), auto, or local."
#: The object store of a cluster that is started here. Blocks are small, and few of them wait.
_STORE_BYTES = 2**29


#: A head that asks for a token is one: whether we have it, the connection itself will tell.
_ASK = """
import contextlib, sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
with contextlib.suppress(AuthenticationError):
    GcsClient(address=sys.argv[1])
"""


@final
@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that answers.

    Parameters
    ----------
    address
        Of its head; ``"local"``: it was started for this run.
    nodes
        The machines: (id, address, processors, GPUs).
    """

    address: str
    nodes: tuple[tuple[str, str, int, int], ...]

    @property
    def processors(self) -> int:
        """Of all machines."""
        return sum(node[2] for node in self.nodes)

    @property
    def gpus(self) -> int:
        """Of all machines."""
        return sum(node[3] for node in self.nodes)

    def __str__(self) -> str:
        machines = "1 machine" if len(self.nodes) == 1 else f"{len(self.nodes)} machines"
        gpus = f", {self.gpus} GPUs" if self.gpus else ""
        return f"Ray at {self.address}: {machines}, {self.processors} processors{gpus}"


def must_be_installed() -> None:
    """Raises OptionError where Ray is absent; it is not imported for that."""
    if importlib.util.find_spec("ray") is None:
        raise OptionError("--ray: Ray is not installed", hint='Install it: pip install "greffon[ray]"')


def import_ray() -> Any:
    """The library, silenced. Raises OptionError where it is absent."""
    must_be_installed()
    os.environ.update(_QUIET)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray warns of its own settings
            import ray
            import ray.data

            context = ray.data.DataContext.get_current()
    except ImportError as error:
        raise OptionError(f"--ray: Ray cannot be imported ({error})", hint='Install it: pip install "greffon[ray]"') from error
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # What Ray's daemons tell of workers that died goes to standard output, whatever is set: among our lines of JSON.
    inside = sys.modules.get("ray._private.worker")
    if hasattr(inside, "print_to_stdstream"):
        setattr(inside, "print_to_stdstream", _unheard)  # noqa: B010  # a module of Ray's own, whose types nobody tells
    return ray


def _unheard(*_: Any, **__: Any) -> None:
    """Takes what nobody is to read: it stands in Ray's log files."""


@contextlib.contextmanager
def connected(address: str = "", *, seconds: float = 10.0) -> Iterator[Cluster]:
    """A connection for the time of a ``with`` block. One that the caller has already is used, and stays.

    Parameters
    ----------
    address
        ``HOST:PORT``, ``"auto"`` (a cluster that runs on this machine, or the one in ``RAY_ADDRESS``), ``"local"`` (a new
        one, for this run alone), or ``""``: as ``"auto"``, and as ``"local"`` where there is none.
    seconds
        How long an address may take to answer.

    Raises
    ------
    OptionError
        Ray is absent, or nothing answers.
    """
    if "ray" in sys.modules and import_ray().is_initialized():
        yield _cluster(import_ray(), address or "local")
        return
    must_be_installed()
    where = _connect(address.strip(), seconds)
    ray = import_ray()
    try:
        yield _cluster(ray, where)
    finally:
        with contextlib.suppress(Exception):  # the way out of an error or an interrupt must not raise another
            ray.shutdown()


def _connect(address: str, seconds: float) -> str:
    named = os.environ.get("RAY_ADDRESS", "") if address in ("", "auto") else address
    if named.startswith("ray://"):
        raise OptionError(f"--ray {named}: Ray's client protocol does not carry data sets",
                          hint="Run greffon on a machine of the cluster, for one with: ray job submit -- greffon ...")  # fmt: skip
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if named and named not in ("local", "auto"):
        _must_answer(named, seconds)
    elif address == "auto" or (not address and _runs_here()):
        named = "auto"
    else:
        _keep_to_ourselves()
        settings |= {"num_cpus": processors(), "object_store_memory": _STORE_BYTES, "include_dashboard": False}
        named = "local"
    ray = import_ray()
    try:
        with _no_chatter(), _no_dashboard(ray, named):
            ray.init(address=named, **settings)
    except Exception as error:  # Ray raises many kinds: ConnectionError, RuntimeError, ValueError, its own
        reason = (str(error) or type(error).__name__).strip().splitlines()[0][:240]
        hint = f"Is it running (ray status)? {_HOW}"
        if _asks_for_a_token(error):
            reason = "it asks for a token"
            hint = "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's."
        raise OptionError(f"--ray {named}: Ray cannot be used there ({reason})", hint=hint) from error
    return named if named != "auto" else str(ray.get_runtime_context().gcs_address)


def _asks_for_a_token(error: BaseException | None) -> bool:
    while error is not None:
        if "AuthenticationError" in f"{type(error).__name__} {error}":
            return True
        error = error.__cause__ or error.__context__
    return False


def _keep_to_ourselves() -> None:
    """A cluster for one run: on this machine's loopback, where others cannot join without the run's own token.

    Ray would else find its address by asking for a way to the internet, and write a token into the user's home. It reads
    this when it is imported, so where it is imported already, Ray's own ways hold.
    """
    if "ray" in sys.modules:
        return
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    # Ray Train asks a dashboard each second. There is none; it would look for that of whatever cluster was here last.
    os.environ.setdefault("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    if loopback := [name for _, name in socket.if_nameindex() if name.startswith("lo")]:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])  # where workers that train together listen to each other
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextlib.contextmanager
def _no_dashboard(ray: Any, named: str) -> Iterator[None]:
    """Without its dashboard, Ray still starts the process for it, which asks three clouds' metadata services whose machine this is.

    A cluster for one run has no need of it.
    """
    services = ray._private.services
    begin = getattr(services, "start_api_server", None)
    if named == "local" and begin is not None:
        services.start_api_server = _nobody
    try:
        yield
    finally:
        if begin is not None:
            services.start_api_server = begin


def _nobody(*_: Any, **__: Any) -> tuple[str, None]:
    """A dashboard's address, and its process: there are none."""
    return "", None


@contextlib.contextmanager
def _no_chatter() -> Iterator[None]:
    """Ray's C++ part writes to the terminal when it starts, however quiet it is told to be."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  # a device
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _must_answer(address: str, seconds: float) -> None:
    """Raises OptionError where nothing listens, or what listens is no head of Ray's."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise OptionError(f"--ray {address}: is no address", hint=_HOW)
    try:
        socket.create_connection((host.strip("[]"), int(port)), seconds).close()
    except OSError as error:
        late = f"no answer within {seconds:.0f} s" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise _no_answer(address, late) from error
    if not _is_head(address, seconds):
        raise _no_answer(address, f"what listens there is no head of Ray's, or takes longer than {seconds:.0f} s")


def _is_head(address: str, seconds: float) -> bool:
    """Asked from another process: Ray itself tries for a minute, and tells of it on the terminal."""
    try:
        return subprocess.run([sys.executable, "-c", _ASK, address], capture_output=True, timeout=seconds, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _no_answer(address: str, reason: str) -> OptionError:
    return OptionError(f"--ray {address}: no Ray cluster answers ({reason})", hint=f"Is it running (ray status)? {_HOW}")


def _runs_here() -> bool:
    """Whether a cluster was started on this machine and still answers. ``ray start`` leaves its address in a file."""
    folder = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray"
    try:
        address = (folder / "ray_current_cluster").read_text("utf-8").strip()
    except OSError:
        return False
    return bool(address) and _is_head(address, 5)


def _cluster(ray: Any, where: str) -> Cluster:
    nodes = [
        (node["NodeID"], node["NodeManagerAddress"], int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0)))
        for node in ray.nodes()
        if node["Alive"]
    ]
    return Cluster(where, tuple(sorted(nodes)))


@cache
def software() -> str:
    """The version of greffon and a digest of its source files: on all machines of a run they must be the same."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root).as_posix()}\n".encode())
        digest.update(file.read_bytes().replace(b"\r\n", b"\n"))
    return f"greffon {version('greffon')} (sources {digest.hexdigest()[:12]})"


def look_around(cluster: Cluster, samples: Sequence[str], *, seconds: float = 120.0) -> None:
    """Ask every machine for its greffon, and whether it sees these files. Raises OptionError for the first that is unfit.

    Parameters
    ----------
    samples
        Paths that every machine must see, as on a shared disk.
    """
    ray = import_ray()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(_about_this_machine)
    asked = {
        address: task.options(num_cpus=0, max_retries=1, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
        .remote(list(samples))
        for node, address, cpus, gpus in cluster.nodes
        if cpus or gpus
    }  # fmt: skip
    mine = software()
    for address, answer in asked.items():
        try:
            theirs, missing = ray.get(answer, timeout=seconds)
        except ray.exceptions.GetTimeoutError as error:
            raise OptionError(f"--ray: the machine {address} does not answer within {seconds:.0f} s") from error
        except ray.exceptions.RayError as error:
            raise OptionError(
                f"--ray: the machine {address} cannot run greffon ({_reason(error)})",
                hint=f"Install the same on every machine of the cluster: {mine}",
            ) from error
        if theirs != mine:
            raise OptionError(f"--ray: the machine {address} has {theirs}, and this one {mine}",
                              hint="Install the same greffon on every machine of the cluster.")  # fmt: skip
        if missing:
            raise OptionError(f"--ray: the machine {address} does not see {missing[0]}",
                              hint="Put photos and --out on a disk that all machines share, or into a bucket (s3://...).")  # fmt: skip


def _about_this_machine(samples: list[str]) -> tuple[str, list[str]]:
    """Runs on a worker: its greffon, and which of these paths it does not see."""
    return software(), [path for path in samples if not os.path.lexists(path)]


def _reason(error: BaseException) -> str:
    """The last line of what Ray tells is what went wrong on the worker."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
