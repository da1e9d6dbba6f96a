"""worker_settings.py with two more functions: one waits for the test, one tells of its process."""

import worker_settings
from service.engine import Catalogue, arq_functions
from tests.contract.slow_job import niceness, slow

settings = {
    **vars(worker_settings.WorkerSettings),
    "functions": [*worker_settings.WorkerSettings.functions, *arq_functions(Catalogue.of(slow, niceness))],
}
"""ARQ's command line takes a dictionary as well as a class."""
