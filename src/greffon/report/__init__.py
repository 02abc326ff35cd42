"""What a person looks at: one HTML file, and pictures of results."""

from greffon.report.adaptation import adaptation_report
from greffon.report.auditing import audit_report
from greffon.report.calibration import plot_reliability
from greffon.report.clusters import ClusterPhoto, cluster_sheet, clusters_report, plot_count
from greffon.report.domains import plot_adaptation, plot_domains
from greffon.report.labelling import labelling_report
from greffon.report.maps import Atlas, make_atlas, map_part, map_report
from greffon.report.neighbours import NeighbourTile, Wall, check_sheet, write_walls
from greffon.report.page import train_report
from greffon.report.plots import learning_curves, plot_comparison, plot_depths, plot_search, rate_finder
from greffon.report.pretraining import plot_pretraining, pretraining_report
from greffon.report.results import check_folder_is_free, check_results_folder, path_in_table, write_results, write_table
from greffon.report.suggestions import suggestions_page, suggestions_sheet

__all__ = [
    "Atlas",
    "ClusterPhoto",
    "NeighbourTile",
    "Wall",
    "adaptation_report",
    "audit_report",
    "check_folder_is_free",
    "check_results_folder",
    "check_sheet",
    "cluster_sheet",
    "clusters_report",
    "labelling_report",
    "learning_curves",
    "make_atlas",
    "map_part",
    "map_report",
    "path_in_table",
    "plot_adaptation",
    "plot_comparison",
    "plot_count",
    "plot_depths",
    "plot_domains",
    "plot_pretraining",
    "plot_reliability",
    "plot_search",
    "pretraining_report",
    "rate_finder",
    "suggestions_page",
    "suggestions_sheet",
    "train_report",
    "write_results",
    "write_table",
    "write_walls",
]
