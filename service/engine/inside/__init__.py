"""What a running function is given: its context, log, files, children and resources."""
