"""Pre-trained weights of published families, read into the detector's backbone: all of it accounted for, or refused.

``files`` reads what lies on disk, ``families`` knows who names a tensor how, ``transfer`` brings it to the grid, the
blocks and the position treatments of a config.
"""
