"""Classifies texts and tables with a finished model. Only LiteRT is needed."""
