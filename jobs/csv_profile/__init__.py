"""How `summarize_csv` looks at a file: read strictly, kept in DuckDB on disk, described column by column.

Python's `csv` reads, because it refuses what is broken and says in which line; DuckDB's own reader may skip rows
without a word. DuckDB counts, because it keeps to a memory limit whatever the number of distinct values, and lets
other threads run meanwhile.
"""

from jobs.csv_profile.column import Column, ColumnType, TopValue
from jobs.csv_profile.profile import Position, Profile, Stopped
from jobs.csv_profile.table import Limits

__all__ = ["Column", "ColumnType", "Limits", "Position", "Profile", "Stopped", "TopValue"]
