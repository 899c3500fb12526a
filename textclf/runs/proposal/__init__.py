"""A first recipe for a table: which columns it reads, which files lie beside it, and which settings suit its rows."""
