"""An HTTP service for one finished model: requests as JSON, texts that wait are classified together."""
