"""What a person looks at: one HTML file, and pictures of results."""

from greffon.report.page import train_report
from greffon.report.plots import plot_comparison, plot_depths
from greffon.report.results import check_results_folder, write_results

__all__ = ["check_results_folder", "plot_comparison", "plot_depths", "train_report", "write_results"]
