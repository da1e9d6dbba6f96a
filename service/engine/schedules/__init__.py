"""Time as a caller: when schedules are due, who fires them, and how they are seen from outside."""
