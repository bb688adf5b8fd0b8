"""From raw pairs to batches: sources, records on disk, tokenizers and the loader."""
