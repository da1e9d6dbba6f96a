"""Arqade's platform: the engine, the HTTP face and the process entry points."""
