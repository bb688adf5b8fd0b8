"""What a picture and its caption are about: key words, objects, and the weights they get in training."""
