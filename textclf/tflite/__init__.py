"""The file format of models, `.tflite`, read and checked: it knows no recipe and no run."""
