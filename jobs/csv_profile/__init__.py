"""How the CSV jobs look at a file: read strictly; for `summarize_csv` kept in DuckDB and described by column.

Python's `csv` reads, because it refuses what is broken and says in which line; DuckDB's own reader may skip rows
without a word. DuckDB counts, because it keeps to a memory limit whatever the number of distinct values, and lets
other threads run meanwhile.
"""

from jobs.csv_profile.column import Column, ColumnType, TopValue
from jobs.csv_profile.profile import Profile
from jobs.csv_profile.table import Limits
from jobs.csv_profile.watched import Position, Stopped, watched
from jobs.csv_profile.workspace import scratch_of

__all__ = ["Column", "ColumnType", "Limits", "Position", "Profile", "Stopped", "TopValue", "scratch_of", "watched"]
