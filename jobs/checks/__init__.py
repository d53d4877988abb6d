"""What `jobs/preflight.py` finds out of an account: a file for each step, its part on Modal beside its part here."""
