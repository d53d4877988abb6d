"""Search: the passages nearest to a query, by reading every vector once."""

from pipeline.tools.search.searcher import Query, Searcher

__all__ = ["Query", "Searcher"]
