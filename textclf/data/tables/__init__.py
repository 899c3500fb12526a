"""Reads delimited text, in files and streams, as many programs write it."""
