"""One HTML file that a person looks at."""

from greffon.report.page import train_report

__all__ = ["train_report"]
