"""Text classification: its record, and how it is trained, measured and exported in a run."""
