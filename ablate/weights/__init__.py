"""Pre-trained weights of published families, read into a detector's backbone: every tensor is accounted for.

``checkpoint`` reads what lies on disk, ``families`` knows who names a tensor how, ``source`` puts both together,
``convert`` brings it to the grid, the blocks and the position treatments of a config, ``settings`` knows what a config
sets for it, ``inspect`` shows all that.
"""
