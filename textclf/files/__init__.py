"""Files and folders: detects what a path leads to, and replaces files and whole folders without losing data."""
