"""From raw pairs of image and captions to records on disk. Beside the tower: training and sampling never import it."""
