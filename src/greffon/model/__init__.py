"""``Model``: a backbone, a cut and a head, with all that is needed to predict. Saved as safetensors and JSON."""

from greffon.model.disk import write_json
from greffon.model.examples import MOST_EXAMPLES, Examples, choose_examples
from greffon.model.folder import SCHEMA, is_model_folder, load_model, save_model, versions
from greffon.model.networks import load_any_backbone, load_network, save_network
from greffon.model.upper import feature_widths, upper_pooled
from greffon.model.value import Model, Prediction

__all__ = [
    "MOST_EXAMPLES",
    "SCHEMA",
    "Examples",
    "Model",
    "Prediction",
    "choose_examples",
    "feature_widths",
    "is_model_folder",
    "load_any_backbone",
    "load_model",
    "load_network",
    "save_model",
    "save_network",
    "upper_pooled",
    "versions",
    "write_json",
]
