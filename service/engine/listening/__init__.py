"""Who waits for a job or listens to events: one reader of the stream for all of them."""
