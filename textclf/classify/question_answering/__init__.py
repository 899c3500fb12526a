"""A finished question answering model: answers from logits, and how good they are."""
