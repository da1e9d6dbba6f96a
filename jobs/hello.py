"""The shortest job: copy this file, change the function, and it can be called over HTTP."""

from service.engine import job


@job()
async def hello(name: str = "world") -> str:
    """Greet `name`.

    >>> await hello(name="Ada")
    'Hello, Ada!'
    """
    return f"Hello, {name}!"
