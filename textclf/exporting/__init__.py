"""From trained weights to the one file that ships: graph, metadata and the proof that it does what was trained."""
