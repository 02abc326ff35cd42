"""A training run written down for other tools to show: TensorBoard's event files, MLflow's store of files."""

from greffon.tracking.opening import KINDS, RUN_FILE, Wish, open_tracker, ready_to_track
from greffon.tracking.tracker import Recorder, Tracker, flattened

__all__ = ["KINDS", "RUN_FILE", "Recorder", "Tracker", "Wish", "flattened", "open_tracker", "ready_to_track"]
