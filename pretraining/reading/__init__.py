"""Teaches a distilled encoder to find answers: questions made from plain text, training by textclf itself, and export."""
