"""What a person looks at: one HTML file, and pictures of results."""

from greffon.report.adaptation import adaptation_report
from greffon.report.auditing import audit_report
from greffon.report.calibration import plot_reliability
from greffon.report.card import CARD_FILE, card_text, write_card
from greffon.report.clusters import ClusterPhoto, cluster_sheet, clusters_report, plot_count
from greffon.report.confusion import plot_confusion
from greffon.report.domains import plot_adaptation, plot_domains
from greffon.report.explanations import (
    ExplainedPhoto,
    ExplanationCard,
    NearPhoto,
    explanation_card,
    explanations_page,
    plot_explanation,
)
from greffon.report.growth import plot_growth
from greffon.report.labelling import labelling_report
from greffon.report.maps import Atlas, make_atlas, map_part, map_report
from greffon.report.neighbours import NeighbourTile, Wall, check_sheet, write_walls
from greffon.report.plots import learning_curves, plot_comparison, plot_depths, plot_search, rate_finder
from greffon.report.pretraining import plot_pretraining, pretraining_report
from greffon.report.results import check_folder_is_free, check_results_folder, path_in_table, write_results, write_table
from greffon.report.run import LANGUAGES, HeatPictures, RunReport, check_language, growth_in, mistake_maps, run_report
from greffon.report.suggestions import suggestions_page, suggestions_sheet

__all__ = [
    "CARD_FILE",
    "LANGUAGES",
    "Atlas",
    "ClusterPhoto",
    "ExplainedPhoto",
    "ExplanationCard",
    "HeatPictures",
    "NearPhoto",
    "NeighbourTile",
    "RunReport",
    "Wall",
    "adaptation_report",
    "audit_report",
    "card_text",
    "check_folder_is_free",
    "check_language",
    "check_results_folder",
    "check_sheet",
    "cluster_sheet",
    "clusters_report",
    "explanation_card",
    "explanations_page",
    "growth_in",
    "labelling_report",
    "learning_curves",
    "make_atlas",
    "map_part",
    "map_report",
    "mistake_maps",
    "path_in_table",
    "plot_adaptation",
    "plot_comparison",
    "plot_confusion",
    "plot_count",
    "plot_depths",
    "plot_domains",
    "plot_explanation",
    "plot_growth",
    "plot_pretraining",
    "plot_reliability",
    "plot_search",
    "pretraining_report",
    "rate_finder",
    "run_report",
    "suggestions_page",
    "suggestions_sheet",
    "write_card",
    "write_results",
    "write_table",
    "write_walls",
]
