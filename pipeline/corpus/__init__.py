"""The corpus: which shards an input has, and their rows. A format is one file and one entry of READERS."""

from pipeline.corpus.apart import check_input
from pipeline.corpus.blocks import Block
from pipeline.corpus.chunk_reader import ChunkReader
from pipeline.corpus.hub import CACHE_VARIABLE, SCHEME, address_of, pinned
from pipeline.corpus.inputs import Input, each_of, in_words
from pipeline.corpus.keep import notices, settle
from pipeline.corpus.names import folders_below, rebased, root_key
from pipeline.corpus.reader import READERS, Reader, reader_of, shard_at
from pipeline.corpus.rows import ChunkRows, Columns, Reject, Rows
from pipeline.corpus.shards import Corpus, Found, find_files, find_shards, open_corpus
from pipeline.corpus.texts import as_text
from pipeline.corpus.textual.record import Kinds

__all__ = [
    "CACHE_VARIABLE",
    "READERS",
    "SCHEME",
    "Block",
    "ChunkReader",
    "ChunkRows",
    "Columns",
    "Corpus",
    "Found",
    "Input",
    "Kinds",
    "Reader",
    "Reject",
    "Rows",
    "address_of",
    "as_text",
    "check_input",
    "each_of",
    "find_files",
    "find_shards",
    "folders_below",
    "in_words",
    "notices",
    "open_corpus",
    "pinned",
    "reader_of",
    "rebased",
    "root_key",
    "settle",
    "shard_at",
]
