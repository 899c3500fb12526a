"""`textclf demo`: a page with a model inside. `writing.py` writes it; the files of the page are in `page/`."""
