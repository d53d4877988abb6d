"""`python -m pipeline` is `embed-corpus`."""

from pipeline.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
