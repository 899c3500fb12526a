"""Delimited text as people have it: files and streams in, rows out."""
