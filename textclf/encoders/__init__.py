"""The encoders: every form in which they come, how they are found, and their forward pass."""
