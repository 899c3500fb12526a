"""Reads tables and turns them into rows of token ids. Nothing here imports TensorFlow."""
