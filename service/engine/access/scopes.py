"""What a caller may do, as four words."""

from enum import StrEnum


class Scope(StrEnum):
    """Each stands alone: a key holds the ones that it was given."""

    READ = "read"
    ENQUEUE = "enqueue"
    OPERATE = "operate"
    ADMIN = "admin"
