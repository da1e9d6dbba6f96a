"""worker_settings.py with one more function: what `arq` runs where a test needs a job that waits."""

import worker_settings
from service.engine import Catalogue, arq_functions
from tests.contract.slow_job import slow

settings = {
    **vars(worker_settings.WorkerSettings),
    "functions": [*worker_settings.WorkerSettings.functions, *arq_functions(Catalogue.of(slow))],
}
"""ARQ's command line takes a dictionary as well as a class."""
