"""What a recipe may say: a YAML file and overrides → a checked `Recipe`, or every problem with its line and column."""
