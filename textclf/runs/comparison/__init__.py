"""Comparisons: of engines that train one recipe, and of runs on the same rows."""
