"""The corpus: which shards an input has, and their rows. A format is one file and one entry of READERS."""

from pipeline.corpus.reader import READERS, ChunkReader, Reader, reader_of
from pipeline.corpus.rows import Columns, Reject, Rows
from pipeline.corpus.shards import Corpus, find_files, find_shards, open_corpus

__all__ = [
    "READERS",
    "ChunkReader",
    "Columns",
    "Corpus",
    "Reader",
    "Reject",
    "Rows",
    "find_files",
    "find_shards",
    "open_corpus",
    "reader_of",
]
