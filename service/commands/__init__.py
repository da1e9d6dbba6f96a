"""The commands that speak to a platform which runs: one module each, loaded when it is used."""
