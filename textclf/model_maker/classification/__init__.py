"""Text classification by Model Maker."""
