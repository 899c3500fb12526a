"""Several labels per text as a run asks for them."""
