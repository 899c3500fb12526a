"""The file of a model with several labels per text: writing, checking and comparing it."""
