"""Rows with any number of labels: how they are read, split and checked."""
