"""Learning: token ids and an encoder in, trained weights and a history out."""
