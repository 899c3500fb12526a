"""Reads, checks and writes models, `.tflite`. This package does not know recipes or runs."""
