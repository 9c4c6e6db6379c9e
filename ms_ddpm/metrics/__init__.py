"""How good samples are: distances between sets of images, digits that a judge reads, copies of training images."""
