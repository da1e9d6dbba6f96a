"""The development stack: an embedded Redis, the API and a worker as one process group, and the demo."""
