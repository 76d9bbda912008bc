"""The report of a run: `OUT/report.html`, one file that shows whether enhancement helped, to look at anywhere.

`aggregates` streams the statistics, `leaders` keeps the rows worth a look, `gallery` fetches their pictures, `charts`
draws, `page` puts it all together, and `document` makes one file of it.
"""

from sgllie.report.page import write_report
from sgllie.report.settings import ReportSettings

__all__ = ["ReportSettings", "write_report"]
