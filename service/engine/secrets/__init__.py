"""What must not be shown: sensitive arguments, sealed and concealed, and members named like secrets."""
