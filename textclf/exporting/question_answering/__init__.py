"""The file of a question answerer: writing, checking and comparing it."""
