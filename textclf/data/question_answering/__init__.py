"""Questions about a context: read from SQuAD files and tables, checked, and split by context."""
