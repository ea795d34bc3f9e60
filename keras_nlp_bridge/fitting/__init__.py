"""Methods inside Keras's training loop."""
