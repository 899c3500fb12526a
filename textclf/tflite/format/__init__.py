"""The bytes of a `.tflite` file: flatbuffers, the schemas of model and metadata, packed files."""
