"""The tasks that a recipe can name, and what a run asks of them."""
