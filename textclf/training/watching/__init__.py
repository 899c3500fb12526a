"""What a training notices about itself, and what it does then."""
