"""Sniffing: what a file is by its first bytes, whatever its name says."""
