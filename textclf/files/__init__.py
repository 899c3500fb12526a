"""Files and folders: what a path leads to, and how files and whole folders are replaced without losing anything."""
