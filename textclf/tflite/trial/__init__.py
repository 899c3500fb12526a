"""Whether a model that nobody vouches for may be run here: its graph is checked, then tried in another process."""
