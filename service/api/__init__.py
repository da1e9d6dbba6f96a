"""The HTTP face: parse, ask the engine, present. One router file per resource."""
