"""Finds the encoder that a recipe names (a folder, an archive, a hub's handle, a URL) as a folder on this disk."""
