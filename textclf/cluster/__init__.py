"""Adds labels to tables with many machines: a folder of outputs, one for each partition of the inputs."""
