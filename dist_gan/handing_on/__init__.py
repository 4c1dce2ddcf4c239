"""Models to hand on: a folder with the generator, what it is and how good, and how others use it."""
