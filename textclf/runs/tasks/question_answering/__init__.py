"""Question answering as a run asks for it."""
