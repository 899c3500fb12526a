"""Reads a recipe (a YAML file and overrides) into a checked `Recipe`, or reports every problem with its line and
column."""
