"""Put your functions here, one module per function: every `@job` function in this package is found.

See `hello.py` for the shortest one.
"""
