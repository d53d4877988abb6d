"""Batch text embedding: shards in, Matryoshka-truncated float16 Parquet out, resumable at any point."""
