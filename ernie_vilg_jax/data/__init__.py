"""The reading path: records on disk, tokenizers, and the loader that makes batches of them."""
