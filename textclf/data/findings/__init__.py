"""Findings about the data, one module for each kind. No data is changed."""
