"""What a person looks at: one HTML file, and pictures of results."""

from greffon.report.adaptation import adaptation_report
from greffon.report.auditing import audit_report
from greffon.report.calibration import plot_reliability
from greffon.report.domains import plot_adaptation, plot_domains
from greffon.report.labelling import labelling_report
from greffon.report.page import train_report
from greffon.report.plots import learning_curves, plot_comparison, plot_depths, plot_search, rate_finder
from greffon.report.results import (
    check_folder_is_free,
    check_results_folder,
    path_in_table,
    write_results,
    write_table,
)

__all__ = [
    "adaptation_report",
    "audit_report",
    "check_folder_is_free",
    "check_results_folder",
    "labelling_report",
    "learning_curves",
    "path_in_table",
    "plot_adaptation",
    "plot_comparison",
    "plot_depths",
    "plot_domains",
    "plot_reliability",
    "plot_search",
    "rate_finder",
    "train_report",
    "write_results",
    "write_table",
]
