"""Writes apps that use a finished model: `writing.py` writes what `platforms.py` and the templates say."""
