"""From trained weights to the `.tflite` file: graph, metadata, and checks that it predicts what the trained model does."""
