"""What a person reads about a run: the report, the model card, the tables on a terminal."""
