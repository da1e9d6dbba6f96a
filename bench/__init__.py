"""Measures our worker beside stock ARQ and its peers: every system in one run, on one private Redis."""
