"""From what a recipe calls an encoder (a folder, an archive, a hub's handle, a URL) to a folder on this disk."""
