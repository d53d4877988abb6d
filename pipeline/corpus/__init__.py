"""The corpus: which shards an input has, and their rows. A format is one file and one entry of READERS."""

from pipeline.corpus.keep import notices, settle
from pipeline.corpus.reader import READERS, ChunkReader, Reader, reader_of
from pipeline.corpus.record import Kinds
from pipeline.corpus.rows import Columns, Reject, Rows
from pipeline.corpus.shards import Corpus, find_shards, open_corpus

__all__ = [
    "READERS",
    "ChunkReader",
    "Columns",
    "Corpus",
    "Kinds",
    "Reader",
    "Reject",
    "Rows",
    "find_shards",
    "notices",
    "open_corpus",
    "reader_of",
    "settle",
]
