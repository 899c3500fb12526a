"""Labels for tables of any size: reading, computing and writing, window by window, with a journal for resuming."""
