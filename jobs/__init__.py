"""The edge: the same pipeline on Modal."""
