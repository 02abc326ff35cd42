"""The report of a model: one page on what it can, where it fails, and how it was made, in English or French."""

from greffon.report.run.heat import mistake_maps
from greffon.report.run.page import run_report
from greffon.report.run.pictures import surest_mistakes
from greffon.report.run.reading import growth_in
from greffon.report.run.saying import LANGUAGES, check_language
from greffon.report.run.value import HeatPictures, RunReport

__all__ = ["LANGUAGES", "HeatPictures", "RunReport", "check_language", "growth_in", "mistake_maps", "run_report", "surest_mistakes"]
