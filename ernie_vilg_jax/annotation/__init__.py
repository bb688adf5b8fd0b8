"""Adds key words, objects and captions to records. Beside the tower: training and sampling never import it."""
