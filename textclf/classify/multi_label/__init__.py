"""Models that give a text any number of labels: tables, measurements."""
