"""How `convert_csv` works: Python's `csv` reads strictly, DuckDB finds types and writes Parquet, all as a stream."""

from jobs.csv_conversion.columns import ConvertedColumn
from jobs.csv_conversion.conversion import Conversion, Format, Wanted

__all__ = ["Conversion", "ConvertedColumn", "Format", "Wanted"]
