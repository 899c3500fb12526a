"""One run, from a recipe to its folder: training, checks, comparison and what a person reads about it."""
