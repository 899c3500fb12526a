"""Writes trained weights as the operations and constants of a `.tflite` graph."""
