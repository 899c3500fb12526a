"""From a table to rows of token ids. Nothing here imports TensorFlow."""
