"""Tokenizes texts exactly as devices do, and makes batches of token ids."""
