"""Reports of finished runs: the paper's tables and figures, as text, Markdown and HTML.

Reads run directories only. `write_report` writes the files, `print_report` prints the same tables
in a terminal.
"""

import featurestore.pictures  # noqa: F401 - before Matplotlib, whose start it explains
from trainer.report.render import Report, Section, Table, print_report, report_json
from trainer.report.write import write_report

__all__ = ["Report", "Section", "Table", "print_report", "report_json", "write_report"]
