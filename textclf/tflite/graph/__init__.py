"""Trained weights → the operations and constants of a `.tflite` graph."""
