"""Tokens exactly as devices make them: texts in, ids and batches out."""
