"""Decides whether an untrusted model may run here: checks its graph, then runs it in another process."""
