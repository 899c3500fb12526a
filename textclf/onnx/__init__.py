"""The file for ONNX runtimes: `builder.py` its operations, `mobilebert.py` and `average_words.py` the graphs,
`model_file.py` the whole file; `reading.py` and `running.py` use it."""
