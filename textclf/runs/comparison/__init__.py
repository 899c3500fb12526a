"""Comparisons of engines that train the same recipe, and of runs on the same rows."""
