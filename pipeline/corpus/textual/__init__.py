"""Texts: what the formats addressed by bytes share, from where a row ends to the values in it."""
