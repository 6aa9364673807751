"""One self-contained HTML page: of sections (`write_report`), or of a directory (`report_results`)."""

from simsched.report.page import Figure, Section, Table, format_cell, render_report, write_report
from simsched.report.results import report_results

__all__ = ["Figure", "Section", "Table", "format_cell", "render_report", "report_results", "write_report"]
