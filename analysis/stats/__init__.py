"""How sure a number is: resampling of images, intervals over images and seeds, comparison of runs."""
