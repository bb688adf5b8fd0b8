"""How well an image fits a prompt of the demo's domain, Chinese or English. Not CLIP: it knows the demo's things only.

scores = AlignmentScorer()(images, ["一只猫", "a red circle above a blue square"])

towers    images and texts to one space: two small networks
network   them with trained weights, and the scorer
train     makes the weights: examples, learning
recall    how often the right text is the nearest
"""
