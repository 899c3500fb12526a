"""The measurements of `benchmarks/question_answering.py`, one module each."""
