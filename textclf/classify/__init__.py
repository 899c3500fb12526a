"""Using a finished model: texts and tables in, labels out. Only LiteRT is needed."""
