"""What a person looks at: one HTML file, and pictures of results."""

from greffon.report.adaptation import adaptation_report
from greffon.report.domains import plot_adaptation, plot_domains
from greffon.report.labelling import labelling_report
from greffon.report.page import train_report
from greffon.report.plots import learning_curves, plot_comparison, plot_depths, plot_search, rate_finder
from greffon.report.pretraining import plot_pretraining, pretraining_report
from greffon.report.results import (
    check_folder_is_free,
    check_results_folder,
    path_in_table,
    write_results,
    write_table,
)

__all__ = [
    "adaptation_report",
    "check_folder_is_free",
    "check_results_folder",
    "labelling_report",
    "learning_curves",
    "path_in_table",
    "plot_adaptation",
    "plot_comparison",
    "plot_depths",
    "plot_domains",
    "plot_pretraining",
    "plot_search",
    "pretraining_report",
    "rate_finder",
    "train_report",
    "write_results",
    "write_table",
]
