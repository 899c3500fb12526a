"""The encoders: the forms in which they come, where they are found, and their forward pass."""
