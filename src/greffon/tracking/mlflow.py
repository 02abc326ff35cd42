"""MLflow: a store of plain files, written by MLflow's own client. No server, and nobody is told."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from greffon.tracking.tracker import Value

__all__ = ["MlflowRun", "import_client"]

#: The experiment that runs stand in.
_EXPERIMENT = "greffon"
#: Nothing is sent to anybody; read by MLflow when it is imported. And files are a store, though MLflow would rather have a data base.
_SETTINGS = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}
_ENDS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
#: What MLflow takes in one call.
_MOST = 100


def import_client() -> Any:
    """MLflow's client class, silenced."""
    os.environ.update(_SETTINGS)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with _hushed():
        from mlflow.tracking import MlflowClient
    return MlflowClient


@contextmanager
def _hushed() -> Iterator[None]:
    """MLflow warns of its own settings, and that a data base would be better than files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@final
class MlflowRun:
    """A ``Recorder``: a run of the experiment "greffon" in a store of files.

    Parameters
    ----------
    place
        What ``mlflow ui --backend-store-uri`` is given.
    name
        Of a new run.
    earlier
        The id of a run to go on with, where it is there; or "".
    """

    def __init__(self, place: Path, name: str, earlier: str) -> None:
        client = import_client()
        self._known: dict[str, set[int]] = {}
        with _hushed():
            self._client: Any = client(tracking_uri=place.absolute().as_uri())
            known = self._client.get_experiment_by_name(_EXPERIMENT)
            experiment = known.experiment_id if known is not None else self._client.create_experiment(_EXPERIMENT)
            self.run = earlier if earlier and self._is_there(earlier) else ""
            if not self.run:
                self.run = str(self._client.create_run(experiment, run_name=name).info.run_id)

    def _is_there(self, run: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_run(run).info.lifecycle_stage == "active"
        except MlflowException:
            return False

    def begin(self) -> None:
        with _hushed():
            self._client.update_run(self.run, status="RUNNING")

    def configuration(self, values: Mapping[str, Value]) -> None:
        from mlflow.entities import Param

        with _hushed():
            there = self._client.get_run(self.run).data.params
            fresh = [Param(name, str(value)) for name, value in values.items() if name not in there]
            for start in range(0, len(fresh), _MOST):
                self._client.log_batch(self.run, params=fresh[start : start + _MOST])

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        with _hushed():
            fresh = [Metric(name, value, now, step) for name, value in values.items() if step not in self._steps(name)]
            if fresh:
                self._client.log_batch(self.run, metrics=fresh)
        for one in fresh:
            self._known[one.key].add(step)

    def _steps(self, name: str) -> set[int]:
        """The steps at which the store has a figure; it is asked once."""
        if name not in self._known:
            self._known[name] = {one.step for one in self._client.get_metric_history(self.run, name)}
        return self._known[name]

    def pictures(self, files: Mapping[str, Path]) -> None:
        with _hushed():
            for name, file in files.items():
                self._client.log_artifact(self.run, str(file), os.path.dirname(name) or None)  # noqa: PTH120  # no path of a disk

    def figures(self, values: Mapping[str, float], configuration: Mapping[str, Value], step: int) -> None:
        self.numbers(step, values)

    def end(self, how: str) -> None:
        with _hushed():
            self._client.set_terminated(self.run, status=_ENDS[how])
