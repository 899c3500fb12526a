"""Question answering by Model Maker."""
