"""The file of a text classifier: writing, checking and comparing it."""
