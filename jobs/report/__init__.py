"""How `make_report` works: events are counted, the counts become a page with a chart and a table."""

from jobs.report.figures import Count, Period, count
from jobs.report.page import Now, page
from jobs.report.table import table

__all__ = ["Count", "Now", "Period", "count", "page", "table"]
